// Package event holds the one value that flows through Holdfast: a source
// makes an [Event], the log stores it, rules read it and make new ones, and
// forwarders send it on. The package imports the standard library only, so
// that every other package may import it.
package event

import (
	"strconv"
	"time"
)

// Time is an instant in nanoseconds since 1970-01-01 UTC. Rules and windows
// receive it as an argument and never read a clock.
type Time int64

// At converts t; the zero time.Time becomes 0.
func At(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return Time(t.UnixNano())
}

// Std returns t as a time.Time in UTC.
func (t Time) Std() time.Time { return time.Unix(0, int64(t)).UTC() }

// Add returns t shifted by d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// String formats t as RFC 3339 with nanoseconds, in UTC.
func (t Time) String() string { return t.Std().Format(time.RFC3339Nano) }

// Event is one message, reading or rule result. It is read-only once it has
// been handed on: several readers share one Event and the memory behind it.
//
// The fields are the record format of the log (package storage); what a
// payload decodes to is a view beside it and never stored.
type Event struct {
	// Epoch and Offset place the event in its stream and are set by the log:
	// offsets start at 1, grow by one and are never used twice; 0 means that
	// the event has not been appended. The epoch is that of the store when
	// the event was appended.
	Epoch  uint64
	Offset uint64

	// Time is when the event happened, as far as its source knows; 0 means
	// that only Received is known.
	Time Time
	// Received is when Holdfast took the event in, by the wall clock.
	Received Time
	// Mono is the time since boot at which Holdfast took the event in, and
	// Boot the number of that boot: together they order events and measure
	// their age across jumps of the wall clock.
	Mono time.Duration
	Boot uint32

	// Topic is an MQTT topic name, without wildcards.
	Topic string
	// Source is the kind of source: mqtt, device, http, bridge, rule.
	Source string
	// Client names the instance within the source: the MQTT client
	// identifier, the device or the rule.
	Client string
	// Key is the ordering key; empty means the topic. Events of one key are
	// delivered in order.
	Key string
	// ContentType is the MIME type of Payload where the source stated one.
	ContentType string
	// Trace is the W3C traceparent where the source stated one.
	Trace string

	Payload []byte
	QoS     uint8
	Retain  bool

	// Properties are further MQTT 5 properties; nil when there are none.
	Properties *Properties
	// Cause is the event that this one was made from; nil for events that
	// came from outside. One that was taken over from another gateway has that
	// gateway's name in it, and no offset if that is not known.
	Cause *ID
}

// Properties are the MQTT 5 PUBLISH properties (section 3.3.2.3) that travel
// with an event.
type Properties struct {
	// Expiry is the message expiry interval in seconds; valid if HasExpiry.
	Expiry          uint32
	HasExpiry       bool
	UTF8            bool // payload format indicator 1
	ResponseTopic   string
	CorrelationData []byte
	User            []Property
}

// Property is one MQTT 5 user property. Names may repeat; order is kept.
type Property struct{ Name, Value string }

// CameFrom reports whether e was taken over from that gateway as it is.
func (e *Event) CameFrom(gateway string) bool {
	return gateway != "" && e.Cause != nil && e.Cause.Offset == 0 && e.Cause.Gateway == gateway
}

// OrderingKey returns Key, or the topic where no key was set.
func (e *Event) OrderingKey() string {
	if e.Key != "" {
		return e.Key
	}
	return e.Topic
}

// Happened returns Time, or Received where the source gave no time.
func (e *Event) Happened() Time {
	if e.Time != 0 {
		return e.Time
	}
	return e.Received
}

// Size is the number of bytes that e stands for in limits on memory and
// batches: its payload and names, plus a fixed share for the rest.
func (e *Event) Size() int {
	return len(e.Payload) + len(e.Topic) + len(e.Client) + 64
}

// ID is the identity of an event: stable across retries and restarts, never
// given to another event, and so the idempotency key of every destination.
type ID struct {
	Gateway string
	Epoch   uint64
	Stream  string
	Offset  uint64
}

// String formats the identity as gateway/epoch/stream/offset, the epoch as 16
// hexadecimal digits.
func (id ID) String() string {
	b := make([]byte, 0, len(id.Gateway)+len(id.Stream)+40)
	b = append(b, id.Gateway...)
	b = append(b, '/')
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[id.Epoch>>shift&15])
	}
	b = append(b, '/')
	b = append(b, id.Stream...)
	b = append(b, '/')
	return string(strconv.AppendUint(b, id.Offset, 10))
}

// ID returns the identity of e as an event of the given gateway and stream.
func (e *Event) ID(gateway, stream string) ID {
	return ID{Gateway: gateway, Epoch: e.Epoch, Stream: stream, Offset: e.Offset}
}

// Emit takes events from a source into the log. It blocks for back-pressure
// only and returns an error only if the events were not taken (done is then
// never called); the events belong to the log once it returns nil.
//
// done is called exactly once, in the order of the calls to Emit: with nil
// when all the events are on disk, with an error when none of them counts as
// taken. It must not block, and runs on the committer's goroutine.
type Emit func(events []Event, done func(error)) error
