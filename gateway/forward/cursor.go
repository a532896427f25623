package forward

import (
	"context"
	"time"

	"holdfast/gateway/event"
)

// Limits bound a batch.
type Limits struct {
	Events int           // at most so many events
	Bytes  int           // at most so many bytes by event.Size, but at least one event
	Linger time.Duration // wait so long for more after the first event has come
}

// Cursor is the durable position of one destination in one stream.
type Cursor interface {
	// Next returns the events at the position, blocking until there is at
	// least one. It returns the same events again until Commit moves the
	// position. What retention removed before it was delivered is skipped and
	// counted by the log.
	Next(ctx context.Context, l Limits) (Batch, error)
	// Commit moves the position behind the first n events of the last batch
	// and books what became of them. With dead letters it returns when they
	// and the position are on disk; without, the position reaches the disk
	// within a second, and a crash before that repeats the events.
	Commit(ctx context.Context, n int, o Outcome) error
}

// Outcome says what became of events that a cursor has passed. Delivered +
// Filtered + len(Dead) is the number of events passed.
type Outcome struct {
	Delivered int
	Filtered  int // not selected by the destination's topics, or not wanted by its sink
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
