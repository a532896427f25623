package broker

import (
	"time"

	"holdfast/gateway/broker/packet"
)

// Limits are what the broker takes from a client. They are checked before
// memory is spent on what is over them. The zero Limits are the defaults.
type Limits struct {
	// ConnectTimeout is how long a connection may take until its CONNECT, with
	// the handshake of TLS, is complete; default 10 s.
	ConnectTimeout time.Duration
	// TopicBytes is the length of a topic, topic filter or client id; default
	// 4096, at most 65,535.
	TopicBytes int
	// TopicLevels are the levels of a topic or topic filter; default and at
	// most 128: mochi walks them in quadratic time under the lock of its topic
	// tree.
	TopicLevels int
	// Subscriptions are those that one client may have, and the filters of one
	// SUBSCRIBE or UNSUBSCRIBE; default 1000.
	Subscriptions int
	// Retained is the memory for retained messages in bytes, 256 for each among
	// them; default 64 MiB. A message that would need more is delivered, but
	// not retained.
	Retained int64
}

// maxLevels is the most that Limits.TopicLevels may be.
const maxLevels = 128

// withDefaults returns the limits with nothing unset and nothing beyond what
// the broker can stand.
func (l Limits) withDefaults() Limits {
	or := func(v *int, def, most int) {
		if *v <= 0 {
			*v = def
		}
		*v = min(*v, most)
	}
	or(&l.TopicBytes, 4096, 65535)
	or(&l.TopicLevels, maxLevels, maxLevels)
	or(&l.Subscriptions, 1000, 1<<20)
	if l.Retained <= 0 {
		l.Retained = 64 << 20
	}
	if l.ConnectTimeout <= 0 {
		l.ConnectTimeout = 10 * time.Second
	}
	return l
}

// packets returns what of it counts for single packets.
func (l Limits) packets() packet.Limits {
	return packet.Limits{TopicBytes: l.TopicBytes, TopicLevels: l.TopicLevels, Filters: l.Subscriptions}
}
