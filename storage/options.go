package storage

import (
	"log/slog"
	"time"
)

// Options say where a log lives and how large it may become.
type Options struct {
	Dir     string
	Gateway string // first part of every identity
	Logger  *slog.Logger

	// Streams are created when they do not exist; their limits apply from
	// now on. A stream on disk that is not named keeps its data and the
	// default limits.
	Streams []StreamOptions

	// Linger is the least time between two commits while nobody waits: at
	// low rates it groups events, so that flash is not written for each one.
	// 0 means 20 ms.
	Linger time.Duration
	// TailBytes is how much of each stream's newest events stays in memory
	// for readers at the head. 0 means 3 MiB.
	TailBytes int
	// QueueBytes bounds what waits for the committer before Append blocks.
	// 0 means 6 MiB.
	QueueBytes int
	// CacheBytes bounds the decoded blocks that are kept for scanners, all of
	// them together. 0 means 6 MiB.
	CacheBytes int
	// Reserve is the disk space that events may not use: it keeps cursors,
	// rule outputs and Badger itself going on a full disk. 0 means 64 MiB.
	Reserve int64

	// Probe opens the store in another process, see the function Probe; nil
	// means that Open does without. An error that wraps ErrUnreadable makes
	// Open set the store aside.
	Probe func(dir string) error

	// noSync opens the store without syncing: the control of the power-cut
	// test, reachable only in a binary built with the tag nosync.
	noSync bool
	// hooks of tests
	onCommit func() error
}

// StreamOptions are the limits of one stream.
type StreamOptions struct {
	Name string
	// Max is the most bytes that the stream keeps on disk, as stored. Beyond
	// it the oldest events are dropped and counted. 0 means 64 MiB.
	Max int64
	// MaxAge drops events that are older, delivered or not; 0 means never.
	MaxAge time.Duration
	// Keep is how long events that every destination has passed stay for
	// replay and backtests, within a quarter of Max.
	Keep time.Duration
}

const (
	mebibyte = 1 << 20

	memTable     = 2 * mebibyte  // Badger's memtable; a transaction holds 15 % of it
	valueLogFile = 16 * mebibyte // Badger's value log files
	ballastBytes = 16 * mebibyte

	defaultMax      = 64 * mebibyte
	commitBytes     = 1 * mebibyte     // events in one transaction, before compression
	commitEntries   = 2000             // keys in one transaction
	commitSmall     = 96 << 10         // bytes of table entries in one transaction: they are in the memtable, of which it may fill 15 %
	valueThreshold  = 1 << 10          // smaller values are in Badger's tree
	hurryBytes      = 32 << 10         // waiting bytes that end a linger
	hurryLinger     = time.Millisecond // for those in a hurry, while their peers are missing
	cursorDelay     = time.Second      // a cursor reaches the disk after so long at the latest
	segmentsPerMax  = 16               // a stream's limit in segments
	minSegmentBytes = 1 * mebibyte
	maxSegmentBytes = 16 * mebibyte
)

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Linger == 0 {
		o.Linger = 20 * time.Millisecond
	}
	if o.TailBytes == 0 {
		o.TailBytes = 3 * mebibyte
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 6 * mebibyte
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 6 * mebibyte
	}
	if o.Reserve == 0 {
		o.Reserve = 64 * mebibyte
	}
}

func (o StreamOptions) withDefaults() StreamOptions {
	if o.Max <= 0 {
		o.Max = defaultMax
	}
	return o
}

func (o StreamOptions) segmentBytes() uint64 {
	return uint64(min(max(o.Max/segmentsPerMax, minSegmentBytes), maxSegmentBytes))
}
