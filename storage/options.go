package storage

import (
	"log/slog"
	"math/bits"
	"time"
)

// Options say where a log lives and how large it may become.
type Options struct {
	Dir     string
	Gateway string // first part of every identity
	Logger  *slog.Logger

	// Streams are created when they do not exist; their limits apply from
	// now on. A stream on disk that is not named keeps its data and the
	// limits it had.
	Streams []StreamOptions

	// Linger is the least time between two commits while nobody waits and
	// little has come: it groups events, so that flash is not written for each
	// one. 0 means DefaultLinger.
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
	// rule outputs and Badger itself going on a full disk. 0 means DefaultReserve.
	Reserve int64

	// Probe opens the store in another process, see the function Probe; nil
	// means that Open does without. An error that wraps ErrUnreadable makes
	// Open set the store aside.
	Probe func(dir string) error

	// noSync opens the store without syncing: the control of the power-cut
	// test, reachable only in a binary built with the tag nosync.
	noSync bool
	// OnCommit, if set, is called before each transaction is written: tests of
	// what must not wait for the disk make it slow. An error fails the store.
	OnCommit func() error
}

// StreamOptions are the limits of one stream.
type StreamOptions struct {
	Name string
	// Max is the most bytes that the stream keeps on disk, as stored. 0 means
	// what Share says, and 64 MiB if that is 0 too.
	Max int64
	// Share bounds the stream to a part of the file system's size, between 0
	// and 1; the smaller of Max and Share counts. 0 means no such bound.
	Share float64
	// MaxEvents is the most events that the stream keeps, by whole segments:
	// it may keep a sixteenth less. 0 means no limit.
	MaxEvents uint64
	// MaxAge drops events that are older, delivered or not; 0 means never.
	MaxAge time.Duration
	// Keep is how long events that every destination has passed stay for
	// replay, within a quarter of Max.
	Keep time.Duration
	// WhenFull says what becomes of new events while Max is reached.
	WhenFull Policy
	// Letters says that the stream holds dead letters: they stay until the
	// limits above take them, whoever has read them, unless they have been
	// tried again or purged. Keep does not count.
	Letters bool
}

// Policy says what a full stream does. Only what comes from sources is ever
// refused or made to wait. What the gateway itself writes, outputs of rules
// and dead letters, always finds room: with Block and Reject there is a
// reserve for it behind Max, and beyond the reserve the oldest events are
// dropped and counted, as with DropOldest. So nothing in the gateway ever
// waits for a stream, and no cycle of back-pressure can form.
type Policy uint32

// The policies.
const (
	DropOldest Policy = iota // the oldest events are removed and counted
	Block                    // sources wait
	Reject                   // sources get an error that wraps ErrStreamFull
)

// ShareOn32Bit is the most that a Share comes to on a 32-bit system.
const ShareOn32Bit = 256 * mebibyte

// DefaultLinger is what Options.Linger is if it is 0.
const DefaultLinger = 20 * time.Millisecond

// DefaultReserve is what Options.Reserve is if it is 0.
const DefaultReserve = 64 * mebibyte

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
	minSegmentCount = 16           // events, where a stream is limited to some number
	leastMax        = 4 * mebibyte // what a share of a small disk comes to at least
	ownEvents       = 10_000
	ownReserve      = 8 * mebibyte // and an eighth of max: see StreamOptions.reserve
)

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Linger == 0 {
		o.Linger = DefaultLinger
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
		o.Reserve = DefaultReserve
	}
}

// within returns the limits as they apply on a file system of so many bytes.
func (o StreamOptions) within(total int64) StreamOptions {
	if o.Share > 0 && total > 0 {
		share := max(int64(o.Share*float64(total)), leastMax)
		if bits.UintSize == 32 {
			share = min(share, ShareOn32Bit) // there is no room for more maps
		}
		if o.Max <= 0 || share < o.Max {
			o.Max = share
		}
	}
	if o.Max <= 0 {
		o.Max = defaultMax
	}
	return o
}

func (o StreamOptions) segmentBytes() uint64 {
	return uint64(min(max(o.Max/segmentsPerMax, minSegmentBytes), maxSegmentBytes))
}

// segmentEvents is after how many events a segment ends; 0 if that does not matter.
func (o StreamOptions) segmentEvents() uint64 {
	if o.MaxEvents == 0 {
		return 0
	}
	return max(o.MaxEvents/segmentsPerMax, minSegmentCount)
}

// hardMax is the size beyond which the oldest events go, whatever the policy:
// where sources stop at Max there is a reserve behind it for what the gateway
// itself writes, and for the one append that went over Max.
func (o StreamOptions) hardMax() int64 {
	if o.WhenFull == DropOldest {
		return o.Max
	}
	return o.Max + o.Max/8 + ownReserve
}

// hardEvents is the same for the number of events; 0 means no limit.
func (o StreamOptions) hardEvents() uint64 {
	if o.WhenFull == DropOldest || o.MaxEvents == 0 {
		return o.MaxEvents
	}
	return o.MaxEvents + o.MaxEvents/8 + ownEvents
}
