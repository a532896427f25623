package mqttsink

import (
	"fmt"
	"sync/atomic"
)

// Packet types of the far side.
const (
	typeConnack  = 2
	typePublish  = 3
	typePuback   = 4
	typeSuback   = 9
	typePingresp = 13
)

// maxPacket bounds what the far side may send in one packet. The log takes
// less; the rest is room for messages that are dropped with a line in the log.
const maxPacket = 16 << 20

// guard checks the frames of the far side before paho sees them. paho trusts
// them: a SUBACK with a code too many ends the process, a length reserves up
// to 256 MiB, and several packets besides PUBACK complete the token of a
// message. Behind the guard PUBACK alone does.
type guard struct {
	filters   atomic.Int32 // in our SUBSCRIBE; 0 if there is none
	connected bool
	head      [5]byte // type and length, as far as they have come
	n         int
	left      int // bytes of the body that are still to come
}

// check takes the next bytes of the stream.
func (g *guard) check(p []byte) error {
	for len(p) > 0 {
		if g.left > 0 {
			skip := min(g.left, len(p))
			g.left -= skip
			p = p[skip:]
			continue
		}
		g.head[g.n] = p[0]
		g.n++
		p = p[1:]
		if g.n == 1 {
			continue
		}
		if g.head[g.n-1] >= 0x80 {
			if g.n == len(g.head) {
				return fmt.Errorf("the far side does not speak MQTT: a packet length of more than four bytes")
			}
			continue
		}
		size := 0
		for i := g.n - 1; i > 0; i-- {
			size = size<<7 | int(g.head[i]&0x7f)
		}
		if err := g.admit(g.head[0], size); err != nil {
			return err
		}
		g.n, g.left = 0, size
	}
	return nil
}

func (g *guard) admit(first byte, size int) error {
	ok := false
	switch kind := first >> 4; {
	case !g.connected:
		ok = first == typeConnack<<4 && size == 2
		g.connected = true
	case kind == typePublish:
		if size > maxPacket {
			return fmt.Errorf("the far side sends a message of %d bytes; at most %d can be taken", size, maxPacket)
		}
		ok = first&0x06 <= 0x02 // QoS 0 or 1, as subscribed
	case kind == typePuback:
		ok = first&0x0f == 0 && size == 2
	case kind == typeSuback:
		ok = first&0x0f == 0 && size > 2 && size == 2+int(g.filters.Load())
	case kind == typePingresp:
		ok = first&0x0f == 0 && size == 0
	}
	if !ok {
		return fmt.Errorf("the far side broke the MQTT protocol: packet type %d with %d bytes", first>>4, size)
	}
	return nil
}
