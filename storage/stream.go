package storage

import (
	"context"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/gateway/event"
)

// Stream is one named, ordered log of events. Its newest events are in
// memory as well, for readers at the head.
type Stream struct {
	log  *Log
	id   uint16
	name string

	policy  atomic.Uint32 // opt.WhenFull, to be read without the lock
	sources sourceStats

	mu           sync.Mutex    // guards all below; the committer is the only one to move offsets
	given        StreamOptions // as configured
	opt          StreamOptions // as they apply
	queued       uint64        // bytes that wait for the committer, see admission.go
	queuedEvents uint64
	room         chan struct{} // closed and nil when a full stream may have room; nil while nobody waits
	dropped      uint64        // events that retention took from an attached cursor because of Max or MaxEvents
	expired      uint64        // and because of MaxAge
	droppedAt    time.Time     // when an event was last dropped
	letters      letters       // of a stream with Options.Letters
	first        uint64        // the oldest offset that is kept
	next         uint64        // the offset that the next event gets
	durable      uint64        // events below this offset are on disk
	gap          uint64        // offsets that a repair has skipped
	damaged      uint64        // events that could not be read, as met by readers
	damageSeen   uint64        // damage below this offset has been counted
	segments     []segment
	cursors      map[string]*Cursor
	replays      map[uint64]*Cursor
	pins         map[string]*Pin

	tail      []run
	tailBytes int

	// closed and set to nil when next or durable moves; nil while nobody waits
	sequencedMoved chan struct{}
	durableMoved   chan struct{}
}

// segment is the unit of retention. Offsets are [First, Next).
type segment struct {
	Number uint32        `json:"number"`
	First  uint64        `json:"first"`
	Next   uint64        `json:"next"`
	Bytes  uint64        `json:"bytes"` // as stored, without keys and indexes
	Latest event.Time    `json:"latest"`
	At     time.Duration `json:"at"` // uptime at the last event
}

// run is some consecutive events in memory.
type run struct {
	first  uint64
	events []event.Event
	bytes  int
}

// streamState is stored in the key "n name".
type streamState struct {
	ID    uint16 `json:"id"`
	First uint64 `json:"first"`
	// Next is a lower bound of the next offset: it counts when nothing of the
	// stream is left on disk.
	Next uint64 `json:"next"`
	Gap  uint64 `json:"gap,omitempty"`
	// Segment is the lowest number that may still have keys on disk.
	Segment uint32 `json:"segment"`
	Dropped uint64 `json:"dropped,omitempty"`
	Expired uint64 `json:"expired,omitempty"`
	// Of a stream of dead letters.
	Letters LetterCounts `json:"letters,omitzero"`
	// The limits that were last configured. They hold for a stream that the
	// configuration names no more: its events are not to be lost by that.
	Given StreamOptions `json:"given,omitzero"`
}

// given returns the limits for a stream of that name which is not configured.
func (st streamState) given(name string) StreamOptions {
	o := st.Given
	o.Name = name
	return o
}

// Name is the name of the stream in the configuration.
func (s *Stream) Name() string { return s.name }

// Bounds returns the oldest offset kept, the first one not yet on disk, and
// the one that the next event will get.
func (s *Stream) Bounds() (first, durable, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, s.durable, s.next
}

func (s *Stream) state() streamState {
	st := streamState{
		ID: s.id, First: s.first, Next: s.durable, Gap: s.gap,
		Dropped: s.dropped, Expired: s.expired, Letters: s.letters.counts, Given: s.given,
	}
	if len(s.segments) > 0 {
		st.Segment = s.segments[0].Number
	}
	return st
}

// append gives the events their offsets and shows them to readers that do not
// wait for the disk. Committer only.
func (s *Stream) append(events []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := 0
	for i := range events {
		events[i].Epoch = s.log.epoch
		events[i].Offset = s.next + uint64(i)
		size += events[i].Size() + eventOverhead
	}
	s.tail = append(s.tail, run{first: s.next, events: events, bytes: size})
	s.tailBytes += size
	s.next += uint64(len(events))
	drop := 0
	// What is not on disk yet must stay, whatever its size.
	for s.tailBytes > s.log.opt.TailBytes && drop < len(s.tail)-1 && s.tail[drop].end() <= s.durable {
		s.tailBytes -= s.tail[drop].bytes
		s.tail[drop] = run{}
		drop++
	}
	s.tail = s.tail[drop:]
}

// wakeSequenced wakes the readers that do not wait for the disk.
func (s *Stream) wakeSequenced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	wake(&s.sequencedMoved)
}

// eventOverhead is what an Event takes in memory beside its payload and names.
const eventOverhead = 160

func (r *run) end() uint64 { return r.first + uint64(len(r.events)) }

// settle notes that all events below next are on disk, and in which segments:
// the last one is active. Readers are woken by wakeReaders.
func (s *Stream) settle(segments []segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments[:len(s.segments)-1], segments...)
	s.durable = s.next
}

func (s *Stream) wakeReaders() {
	s.mu.Lock()
	defer s.mu.Unlock()
	wake(&s.durableMoved)
}

func wake(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}

func listen(c *chan struct{}) <-chan struct{} {
	if *c == nil {
		*c = make(chan struct{})
	}
	return *c
}

// fromTail appends events at offset from onwards that are in memory, within
// the limits. ok is false when the oldest of them must come from the disk.
func (s *Stream) fromTail(dst []event.Event, from, end uint64, l ReadLimits) (_ []event.Event, ok bool) {
	i := sort.Search(len(s.tail), func(i int) bool { return s.tail[i].end() > from })
	if i == len(s.tail) || s.tail[i].first > from {
		return dst, false
	}
	size := 0
	for ; i < len(s.tail) && from < end; i++ {
		events := s.tail[i].events[from-s.tail[i].first:]
		for k := range events {
			size += events[k].Size()
			if len(dst) > 0 && (size > l.Bytes || len(dst) >= l.Events) || from >= end {
				return dst, true
			}
			dst = append(dst, events[k])
			from++
		}
	}
	return dst, true
}

// segmentOf returns the number of the segment that holds offset.
func (s *Stream) segmentOf(offset uint64) (uint32, bool) {
	i := sort.Search(len(s.segments), func(i int) bool { return s.segments[i].Next > offset })
	if i == len(s.segments) || offset < s.segments[i].First {
		return 0, false
	}
	return s.segments[i].Number, true
}

// storedBytes is the size of the stream on disk.
func (s *Stream) storedBytes() (n uint64) {
	for i := range s.segments {
		n += s.segments[i].Bytes
	}
	return n
}

// Wait blocks until the stream has an event at offset: on disk, or only in
// memory if sequenced.
func (s *Stream) Wait(ctx context.Context, offset uint64, sequenced bool) error {
	for {
		s.mu.Lock()
		if offset < s.durable || sequenced && offset < s.next {
			s.mu.Unlock()
			return nil
		}
		moved := listen(&s.durableMoved)
		if sequenced {
			moved = listen(&s.sequencedMoved)
		}
		s.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.log.failed:
			return s.log.Err()
		case <-s.log.closing:
			return ErrClosed
		}
	}
}

// Pin keeps retention from passing an offset that a processor may have to
// read again.
type Pin struct {
	stream *Stream
	offset uint64
	// Pressure receives when retention would like to pass the pin.
	Pressure chan struct{}
}

// Pin registers a processor that may read again from offset on. Retention
// gives way to it for a while, then passes it and counts what was missed.
func (s *Stream) Pin(name string, offset uint64) *Pin {
	p := &Pin{stream: s, offset: offset, Pressure: make(chan struct{}, 1)}
	s.mu.Lock()
	s.pins[name] = p
	s.mu.Unlock()
	return p
}

// Move sets the offset that is needed from now on.
func (p *Pin) Move(offset uint64) {
	p.stream.mu.Lock()
	p.offset = offset
	p.stream.mu.Unlock()
}

// Unpin removes a pin.
func (s *Stream) Unpin(name string) {
	s.mu.Lock()
	delete(s.pins, name)
	s.mu.Unlock()
}

// Max is the stream's limit in bytes.
func (s *Stream) Max() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opt.Max
}

// StreamStatus is a stream as the operator sees it.
type StreamStatus struct {
	Name        string
	First, Next uint64 // Next is the first offset that is not on disk
	Gap         uint64 // offsets that a repair has skipped
	Damaged     uint64 // events that readers could not read
	Bytes       uint64
	Max         int64 // as it applies: Share counts
	MaxEvents   uint64
	Keep        time.Duration
	Policy      Policy
	// Dropped and Expired are events that retention took although an attached
	// cursor had not passed them, because the stream was full and because they
	// were too old. They are on disk with the stream.
	Dropped, Expired uint64
	DroppedAt        time.Time // the last time that one was dropped; zero since the start if never
	// Full says that sources are refused or wait. Refused counts the events
	// that were refused since the start; Waiting the appends that wait now.
	Full      bool
	Refused   uint64
	RefusedAt time.Time
	Waiting   int
	// Letters is about a stream of dead letters.
	Letters LetterStatus
}

// Status returns a snapshot of the stream.
func (s *Stream) Status() StreamStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := StreamStatus{
		Name: s.name, First: s.first, Next: s.durable, Gap: s.gap, Damaged: s.damaged,
		Bytes: s.storedBytes(), Max: s.opt.Max, MaxEvents: s.opt.MaxEvents, Keep: s.opt.Keep, Policy: s.opt.WhenFull,
		Dropped: s.dropped, Expired: s.expired, DroppedAt: s.droppedAt,
		Full: s.opt.WhenFull != DropOldest && s.full(), Refused: s.sources.refused.Load(), Waiting: int(s.sources.waiting.Load()),
		Letters: s.letterStatus(),
	}
	if at := s.sources.refusedAt.Load(); at != 0 {
		st.RefusedAt = time.Unix(0, at)
	}
	return st
}
