// Package forward carries events from a stream of the log to destinations: a
// [Sink] is the Go kind behind a destination, a [Forwarder] moves one cursor
// along one stream for it. Delivery is at least once, and in order for events
// that share an ordering key.
//
//	cursor ─► window ─► lanes, by key ─► parcels ─► Send
//	   ▲                                             │
//	   └──── booked from the beginning on ◄── fates ◄┘
//
// The window (window.go) holds what the cursor has handed out and nobody has
// booked. A key always has the same lane (lane.go), and a parcel has its lanes
// for itself until every event in it is delivered or a dead letter, so that
// several parcels can be under way and keys stay in order. Fates are decided in
// any order, and booked without gaps: the position passes no event of which
// nobody knows what became of it.
package forward

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// Batch is some events of one stream, in offset order. With several requests in
// flight there are gaps between them: those belong to other batches.
type Batch struct {
	Gateway string // the gateway's name, first part of every identity
	Stream  string
	Replay  bool // sent again on request, not by the live cursor
	Events  []event.Event
}

// Sink sends batches to one far side. Send returns nil only when the far side
// has accepted every event of the batch. Errors say what to do about it:
// [Permanent] when these events will never be accepted, [TooLarge] when a
// smaller batch may be, a [*PartialError] when only some were refused,
// [RetryAfter] when the far side named a time; anything else is a fault of the
// destination, and the same batch is sent again after a pause.
//
// Send is called by one goroutine at a time, or, if the kind allows more than
// one request, by as many; it returns soon after ctx ends.
// It must not keep the batch. Close releases connections and files.
type Sink interface {
	Send(ctx context.Context, b Batch) error
	Close() error
}

// Kind is a sink as it can be named in the configuration. New reads its own
// settings from the section, reports every mistake in them with its position,
// and touches neither network nor disk.
type Kind struct {
	Name   string // as in type: NAME
	Doc    string // one sentence for people choosing a sink
	Sample string // settings in YAML that pass check
	New    func(s *config.Section) (Sink, error)
	// Files reads the files that the settings name, such as certificates, and
	// reports every mistake with its position; nil if a kind names none. It
	// does not repeat what New says of the same settings.
	Files func(s *config.Section) error
	// Requests is how many batches are on their way at a time unless the
	// configuration says otherwise. 0 means that Send takes one at a time,
	// and that the configuration cannot change that.
	Requests int
	// Source makes the other direction from the same settings; nil if the
	// kind has none. It returns nil without an error if the settings ask for
	// none, and like New touches neither network nor disk.
	Source func(s *config.Section) (Source, error)
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent marks err as a fault of the events: sending them again cannot
// succeed. The forwarder halves the batch until the offending event stands
// alone, and makes only that one a dead letter.
func Permanent(err error) error { return &permanentError{err} }

// IsPermanent reports whether err was marked by [Permanent].
func IsPermanent(err error) bool { var p *permanentError; return errors.As(err, &p) }

type tooLargeError struct{ err error }

func (e *tooLargeError) Error() string { return e.err.Error() }
func (e *tooLargeError) Unwrap() error { return e.err }

// TooLarge marks err as about the size of the batch: half of it may pass. A
// single event that is too large counts as refused for good.
func TooLarge(err error) error { return &tooLargeError{err} }

// IsTooLarge reports whether err was marked by [TooLarge].
func IsTooLarge(err error) bool { var t *tooLargeError; return errors.As(err, &t) }

type retryError struct {
	err   error
	after time.Duration
}

func (e *retryError) Error() string { return fmt.Sprintf("%v (retry after %v)", e.err, e.after) }
func (e *retryError) Unwrap() error { return e.err }

// RetryAfter marks err as temporary with the pause that the far side asked for.
func RetryAfter(err error, after time.Duration) error { return &retryError{err, after} }

// RetryDelay returns the pause that the far side asked for, if it did.
func RetryDelay(err error) (time.Duration, bool) {
	var r *retryError
	if errors.As(err, &r) {
		return r.after, true
	}
	return 0, false
}

// PartialError reports that the far side refused some events of a batch for
// good and accepted all the others.
type PartialError struct {
	Refused map[int]error // index in Batch.Events to the reason
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("%d events of the batch were refused", len(e.Refused))
}
