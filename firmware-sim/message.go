package sim

import (
	"strconv"
	"time"
)

// statusMetric is the last level of the topic in which a board says whether it
// is there.
const statusMetric = "status"

// Link says what a message does to the connection of its board.
type Link int

// What messages do to the connection.
const (
	LinkKept    Link = iota // nothing: it is sent over the connection there is
	LinkUp                  // the board connects, and says so with this message
	LinkDown                // the board says goodbye with this message and disconnects
	LinkDropped             // the link breaks, and the broker publishes this message, the will
)

// Message is one step in the sequence of a board.
type Message struct {
	At       time.Time // when the board sends it
	Board    string
	Topic    string
	Payload  []byte // JSON; the caller must not change it
	Retained bool
	Link     Link

	Repeated bool // it is the reading before it, sent a second time
	Lost     int  // readings that have left the full buffer of the board since the message before
}

// clock is the clock of a board: where the scenario begins, and what is wrong.
type clock struct {
	Clock
	start time.Time
}

// now returns what the clock shows at t, in milliseconds since 1970, unless it
// has not been set since the board was powered on.
func (c *clock) now(powered, t time.Duration) (ms int64, set bool) {
	gained := time.Duration(c.PPM * float64(t) / 1e6)
	return c.start.Add(t + c.Skew + gained).UnixMilli(), t-powered >= c.Unset
}

// reading returns the payload of one reading.
func (p *probe) reading(value float64, c *clock, powered, t time.Duration, seq int) []byte {
	b := append(make([]byte, 0, 80), `{"value":`...)
	if p.kind.binary {
		b = strconv.AppendBool(b, value != 0)
	} else {
		from := len(b)
		b = strconv.AppendFloat(b, value, 'f', p.kind.decimals, 64)
		if zero(b[from:]) {
			b = append(b[:from], '0')
		}
		b = append(b, `,"unit":"`...)
		b = append(b, p.kind.Unit...)
		b = append(b, '"')
	}
	if ms, set := c.now(powered, t); set {
		b = append(b, `,"ts":`...)
		b = strconv.AppendInt(b, ms, 10)
	}
	b = append(b, `,"seq":`...)
	b = strconv.AppendInt(b, int64(seq), 10)
	return append(b, '}')
}

// zero says whether a formatted number is 0, which must not be written as -0.
func zero(number []byte) bool {
	for _, c := range number {
		if '1' <= c && c <= '9' {
			return false
		}
	}
	return true
}

// willPayload is what the broker publishes when the link of a board breaks.
const willPayload = `{"state":"offline"}`

// status returns the payload with which the board itself says whether it is
// there.
func status(state string, c *clock, powered, t time.Duration) []byte {
	b := append([]byte(`{"state":"`), state...)
	b = append(b, '"')
	if ms, set := c.now(powered, t); set {
		b = append(b, `,"ts":`...)
		b = strconv.AppendInt(b, ms, 10)
	}
	return append(b, '}')
}

// AppendJSON appends the message as one JSON object without a line feed, as
// `firmware-sim print` writes it: time, board, topic and payload, and of
// retained, link (up, down, dropped), repeated and lost what applies.
func (m Message) AppendJSON(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = m.At.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, `","board":"`...) // names need no escapes, see [Parse]
	b = append(b, m.Board...)
	b = append(b, `","topic":"`...)
	b = append(b, m.Topic...)
	b = append(b, `","payload":`...)
	b = append(b, m.Payload...)
	if m.Retained {
		b = append(b, `,"retained":true`...)
	}
	if link := [...]string{"", "up", "down", "dropped"}[m.Link]; link != "" {
		b = append(append(append(b, `,"link":"`...), link...), '"')
	}
	if m.Repeated {
		b = append(b, `,"repeated":true`...)
	}
	if m.Lost > 0 {
		b = strconv.AppendInt(append(b, `,"lost":`...), int64(m.Lost), 10)
	}
	return append(b, '}')
}
