package forward

import (
	"context"
	"errors"
	"time"

	"holdfast/gateway/event"
)

// Limits bound a batch.
type Limits struct {
	Events int           // at most so many events
	Bytes  int           // at most so many bytes by event.Size, but at least one event
	Linger time.Duration // wait so long for more after the first event has come
}

// Cursor is the durable position of one destination in one stream. One
// goroutine may call Next while another calls Commit.
type Cursor interface {
	// Next returns the events behind those that it has returned before,
	// blocking until there is at least one; [ErrEnd] when there will be none.
	// The events stay valid, their slice until the next call. What retention
	// removed before it was handed out is skipped and counted by the log.
	Next(ctx context.Context, l Limits) (Span, error)
	// Commit moves the position over the offsets [from, to) and books what
	// became of them. Spans are committed in order, also in parts. With dead
	// letters it returns when they and the position are on disk; without, the
	// position reaches the disk within a second, and a crash before that
	// repeats the events.
	Commit(ctx context.Context, from, to uint64, o Outcome) error
}

// ErrEnd says that a cursor has handed out all that it will ever hand out.
var ErrEnd = errors.New("the cursor is at its end")

// Span is a run of the stream as a cursor hands it out: offsets [From, To).
// Events are all of them, or none if they are passed over.
type Span struct {
	Batch
	From, To uint64
	Skipped  Skip
}

// Skip says why the events of a span are passed over unread.
type Skip int

// The reasons.
const (
	SkipNothing  Skip = iota
	SkipFiltered      // the destination does not select them
	SkipDamaged       // they cannot be read
)

// Outcome says what became of events that a cursor has passed. Delivered +
// Filtered + Damaged + len(Dead) is the number of events passed.
type Outcome struct {
	Delivered int
	Filtered  int // not selected by the destination's topics, or not wanted by its sink
	Damaged   int
	Dead      []DeadLetter
}

// DeadLetter is an event that a destination refused for good, or that a rule
// failed on. The original record is kept whole.
type DeadLetter struct {
	Event    event.Event
	Reason   string // from a closed list: refused, too_large, rule_failed
	Err      string // what the far side or the rule said
	Attempts int
	First    event.Time // when it was first tried
	Last     event.Time
}
