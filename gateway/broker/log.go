package broker

import (
	"time"

	"holdfast/gateway/event"
)

// Stream is a stream of the log as subscribers read it who are behind.
type Stream interface {
	// Name is the name of the stream. Sessions keep their places under it.
	Name() string
	// Scanner returns a reader of what is on disk for those topics.
	Scanner(wants func(topic string) bool) Scanner
	// Retained returns a reader that may pass over what has no retain flag.
	Retained() Scanner
}

// Scanner reads a stream for one goroutine.
type Scanner interface {
	// Read returns some events from offset on, without waiting, and the offset
	// to go on at. It may pass over what cannot be had any more and what is
	// not wanted, and may return events that are not wanted. They are shared.
	Read(offset uint64) (events []event.Event, next uint64, err error)
}

// State keeps what must outlive the process: subscriptions, places in the
// log, wills and retained messages.
type State interface {
	// Load calls fn with every entry. The value is valid during the call only.
	Load(fn func(key string, value []byte) error) error
	// Put changes entries, all or none of them, in the order of the calls; a
	// nil Value removes one. done, with the contract of [event.Emit], says that
	// this is on disk; hurry, that somebody waits for it.
	Put(entries []Entry, hurry bool, done func(error)) error
}

// Entry is one key of the State with its value.
type Entry struct {
	Key   string
	Value []byte
}

// Sessions bound what is kept for subscribers that are away or do not keep up.
// Messages themselves are in the log, and go when their stream is full.
type Sessions struct {
	Max    int64         // bytes of the messages that wait for one session; default 64 MiB
	MaxAge time.Duration // age at which they are dropped; 0 means never
	Expiry time.Duration // the longest that a session is kept without its client; default 7 days
}

// Age says how long ago an event was taken in, whatever the wall clock did
// since.
func (b *Broker) age(e *event.Event) time.Duration {
	if b.opt.Age != nil {
		return b.opt.Age(e)
	}
	return time.Since(e.Received.Std())
}

// remaining is what is left of an event's message expiry interval, in seconds;
// live is false if nothing is. The interval is 0 for an event that has none.
func (b *Broker) remaining(e *event.Event) (left uint32, live bool) {
	if e.Properties == nil || !e.Properties.HasExpiry {
		return 0, true
	}
	total := time.Duration(e.Properties.Expiry) * time.Second
	if e.Received == 0 {
		return e.Properties.Expiry, e.Properties.Expiry > 0
	}
	waited := max(0, b.age(e))
	if waited >= total {
		return 0, false
	}
	return uint32((total - waited + time.Second - 1) / time.Second), true
}
