package storage

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"holdfast/gateway/event"
)

// Ledger says what became of the events that a cursor has passed. It balances
// by construction, for a cursor moves only by booking:
//
//	appended = Delivered + Filtered + Expired + Dropped + Dead + Damaged + SkippedAtStart + pending
type Ledger struct {
	Delivered      uint64 `json:"delivered"`
	Filtered       uint64 `json:"filtered"`         // not selected by the destination
	Expired        uint64 `json:"expired"`          // older than the stream's max_age
	Dropped        uint64 `json:"dropped"`          // removed because the stream was full
	Dead           uint64 `json:"dead"`             // moved to the dead letters
	Damaged        uint64 `json:"damaged"`          // could not be read
	SkippedAtStart uint64 `json:"skipped_at_start"` // older than the cursor
}

// cursorState is stored in the key "c stream name".
type cursorState struct {
	Next   uint64 `json:"next"` // offset of the first event not booked
	Ledger Ledger `json:"ledger"`
	// Retrying are dead letters that are pending again; Purged are letters,
	// counted as Dead, that somebody has purged.
	Retrying uint64 `json:"retrying,omitempty"`
	Purged   uint64 `json:"purged,omitempty"`
}

// Cursor is the durable position of one destination in one stream. Next reads
// ahead of the position; Commit moves it. One goroutine may call Next while
// another calls Commit.
type Cursor struct {
	stream *Stream
	name   string
	key    []byte
	replay *replayState // what makes the cursor a replay; nil for all others

	// guarded by stream.mu, like all that retention may move
	pos      uint64        // the first event that is not booked
	saved    cursorState   // booked so far
	dirty    bool          // saved is ahead of the disk
	urgent   bool          // and goes there with the next transaction
	retrying []uint64      // dead letters to be delivered again, ascending
	retried  chan struct{} // closed and nil when one comes; nil while nobody waits
	attached bool          // a destination of the running configuration uses it
	ahead    uint64        // where Next goes on; what lies between pos and it is handed out
	taken    []taking      // what retention has booked of that, in order
	turn     uint64        // grows with every Rewind: what was handed out before is void

	mu     sync.Mutex // one Next at a time
	reader *Reader

	selection *selection // nil selects everything
}

// Start says where a cursor that does not exist yet begins.
type Start struct {
	offset uint64
	now    bool
}

// Where a cursor can begin.
var (
	StartNow    = Start{now: true} // at the next event
	StartOldest = Start{}          // at the oldest event kept
)

// StartFrom begins at an offset, or at the oldest event kept behind it.
func StartFrom(offset uint64) Start { return Start{offset: offset} }

// Cursor returns the cursor of that name in the stream and attaches it. What
// an earlier user was handed out and has not booked is handed out again.
func (s *Stream) Cursor(name string, start Start) *Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cursors[name]
	if c == nil {
		c = &Cursor{stream: s, name: name, key: cursorKey(s.id, name), dirty: true}
		c.pos = s.next
		if !start.now {
			c.pos = min(max(start.offset, s.first), s.next)
		}
		c.saved = cursorState{Next: c.pos, Ledger: Ledger{SkippedAtStart: c.pos - 1 - s.gap}}
		s.cursors[name] = c
		c.write() // before an event that it must not skip once more
	}
	c.attached = true
	c.selection = nil // that of an earlier user
	if c.reader == nil {
		c.reader = s.Reader(false)
	}
	c.rewind()
	return c
}

// Save returns when the position is on disk. A new cursor is saved before its
// destination starts: after a crash it must not begin once more.
func (c *Cursor) Save(ctx context.Context) error {
	return c.stream.log.submitAndWait(ctx, &request{hurry: true, prepare: func(*request) {
		c.stream.mu.Lock()
		c.write()
		c.stream.mu.Unlock()
	}})
}

// Detach says that no destination uses the cursor any more. It keeps its
// position and, as long as the stream has room, its events; but it is no
// reason to refuse new ones.
func (c *Cursor) Detach() {
	c.stream.mu.Lock()
	c.attached = false
	c.stream.mu.Unlock()
}

// Forget removes a cursor that no destination uses, with its ledger; it
// returns when that is on disk. It reports whether there was one.
func (s *Stream) Forget(ctx context.Context, name string) (bool, error) {
	s.mu.Lock()
	c := s.cursors[name]
	if c == nil || c.attached {
		s.mu.Unlock()
		return false, nil
	}
	// First from memory, so that no transaction behind this one writes it.
	delete(s.cursors, name)
	sets := []keyValue{{c.key, nil}}
	for _, letter := range c.retrying {
		sets = append(sets, keyValue{retryKey(s.id, name, letter), nil})
	}
	s.mu.Unlock()
	for part := range slices.Chunk(sets, commitEntries/2) {
		if err := s.log.submitAndWait(ctx, &request{hurry: true, sets: part}); err != nil {
			return true, err
		}
	}
	return true, nil
}

// rewind voids what is handed out. The caller holds stream.mu.
func (c *Cursor) rewind() {
	c.ahead, c.taken = c.pos, nil
	c.turn++
}

// Span is what Next has read: offsets [From, To). Either Events are all of
// them, or they are passed over for the reason that Skipped gives.
type Span struct {
	From, To uint64
	Events   []event.Event // valid until the next call of Next; what they point to stays valid
	Skipped  Skip
}

// Skip says why events are passed over unread.
type Skip int

// The reasons.
const (
	SkipNothing  Skip = iota
	SkipFiltered      // the index of their blocks has nothing that the cursor selects
	SkipDamaged       // they cannot be read
)

// ErrEnd is returned by Next when a replay has handed out all its events.
var ErrEnd = errors.New("the replay has no further events")

// Next returns the events behind those that it has returned before, waiting
// for the first one and then for the linger time for more. What is not
// committed is returned again only by a new user of the cursor.
func (c *Cursor) Next(ctx context.Context, l ReadLimits, linger time.Duration) (Span, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		from, end := c.goOn()
		if end > 0 && from >= end {
			return Span{}, ErrEnd
		}
		if err := c.stream.Wait(ctx, from, false); err != nil {
			return Span{}, err
		}
		if linger > 0 {
			if err := c.linger(ctx, from, l, linger); err != nil {
				return Span{}, err
			}
		}
		span, err := c.read(from, end, l)
		if errors.Is(err, errMoved) || err == nil && !c.handOut(span) {
			continue // retention was faster; it has moved the cursor
		}
		return span, err
	}
}

var errMoved = errors.New("retention has moved the cursor")

// goOn returns where to read on, and the end of a replay.
func (c *Cursor) goOn() (from, end uint64) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	c.ahead = max(c.ahead, c.pos)
	if c.replay != nil {
		end = c.replay.End
	}
	return c.ahead, end
}

// read returns the span at from.
func (c *Cursor) read(from, end uint64, l ReadLimits) (Span, error) {
	if c.selection != nil {
		if n := c.stream.skippable(from, c.selection); n > 0 {
			to := from + n
			if end > 0 {
				to = min(to, end)
			}
			return Span{From: from, To: to, Skipped: SkipFiltered}, nil
		}
	}
	if end > 0 {
		l.Events = int(min(uint64(l.Events), end-from))
	}
	events, err := c.reader.Read(from, l)
	var damaged *DamagedError
	switch {
	case errors.As(err, &damaged):
		to := damaged.Next
		if end > 0 {
			to = min(to, end)
		}
		c.stream.log.opt.Logger.Error("events cannot be read and are passed over",
			"stream", c.stream.name, "destination", c.name, "err", err)
		return Span{From: from, To: to, Skipped: SkipDamaged}, nil
	case errors.As(err, new(*TrimmedError)):
		return Span{}, errMoved
	case err != nil:
		return Span{}, err
	case len(events) == 0:
		return Span{}, errMoved
	}
	if c.selection != nil {
		c.selection.learn(events)
	}
	return Span{From: from, To: from + uint64(len(events)), Events: events}, nil
}

// handOut notes that the span is with the user, unless retention has taken
// of it meanwhile.
func (c *Cursor) handOut(span Span) bool {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	if c.pos > span.From {
		return false
	}
	c.ahead = span.To
	return true
}

// linger waits until the stream holds a full batch at pos, or for d.
func (c *Cursor) linger(ctx context.Context, pos uint64, l ReadLimits, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := c.stream.Wait(ctx, pos+uint64(l.Events)-1, false)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
