package broker

import (
	"bytes"
	"fmt"
	"time"
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

// checkTopic reports what makes a client's topic name unusable.
func (l *Limits) checkTopic(b []byte) error {
	switch {
	case !validText(b):
		return malformed("topic is not UTF-8 text") // [MQTT-1.5.4-1]
	case bytes.IndexByte(b, '+') >= 0 || bytes.IndexByte(b, '#') >= 0:
		return &violation{code: codeBadTopic, what: "topic with a wildcard"} // [MQTT-3.3.2-2]
	}
	return l.checkSize(b, codeBadTopic, "topic")
}

func (l *Limits) checkSize(b []byte, code byte, what string) error {
	switch {
	case len(b) > l.TopicBytes:
		return &violation{code: code, what: fmt.Sprintf("%s of more than %d bytes", what, l.TopicBytes)}
	case bytes.Count(b, []byte{'/'}) >= l.TopicLevels:
		return &violation{code: code, what: fmt.Sprintf("%s with more than %d levels", what, l.TopicLevels)}
	}
	return nil
}
