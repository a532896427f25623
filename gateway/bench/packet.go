package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Types of MQTT control packets, in the upper four bits of the first byte.
const (
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typeSuback     = 9
	typePingresp   = 13
	typeDisconnect = 14
)

// A PINGREQ and a DISCONNECT packet, the same in both versions.
var (
	pingreq    = []byte{0xC0, 0}
	disconnect = []byte{0xE0, 0}
)

// Login is what a client says of itself in CONNECT.
type Login struct {
	ClientID string
	Username string
	Password string
	Version  byte // 4 for MQTT 3.1.1, 5 for MQTT 5
	Keep     bool // ask for a session that outlives the connection
}

// AppendConnect appends a CONNECT packet without keep-alive to b.
func AppendConnect(b []byte, l Login) []byte {
	flags := byte(0x02) // clean start
	if l.Keep {
		flags = 0
	}
	if l.Username != "" {
		flags |= 0x80
		if l.Password != "" {
			flags |= 0x40
		}
	}
	body := appendString(nil, "MQTT")
	body = append(body, l.Version, flags, 0, 0)
	if l.Version == 5 {
		if l.Keep {
			body = append(body, 5, 0x11, 0, 0, 0x0E, 0x10) // session expiry: an hour
		} else {
			body = append(body, 0)
		}
	}
	body = appendString(body, l.ClientID)
	if l.Username != "" {
		body = appendString(body, l.Username)
		if l.Password != "" {
			body = appendString(body, l.Password)
		}
	}
	b = append(b, 0x10)
	b = appendLength(b, len(body))
	return append(b, body...)
}

// AppendPublish appends a PUBLISH packet to b. The packet identifier id is
// left out at QoS 0.
func AppendPublish(b []byte, version byte, topic string, payload []byte, qos byte, id uint16, dup bool) []byte {
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	if version == 5 {
		n++
	}
	first := byte(typePublish<<4) | qos<<1
	if dup {
		first |= 0x08
	}
	b = append(b, first)
	b = appendLength(b, n)
	b = appendString(b, topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if version == 5 {
		b = append(b, 0) // no properties
	}
	return append(b, payload...)
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

var errLength = errors.New("read MQTT packet: remaining length of more than four bytes")

// NextPacket cuts the first control packet off b and returns its first byte,
// its body and what follows. ok is false while the packet is incomplete. The
// slices share the memory of b.
func NextPacket(b []byte) (first byte, body, rest []byte, ok bool, err error) {
	if len(b) < 2 {
		return 0, nil, b, false, nil
	}
	n := 0
	for i := 1; ; i++ {
		if i == 5 {
			return 0, nil, b, false, errLength
		}
		if i == len(b) {
			return 0, nil, b, false, nil
		}
		n |= int(b[i]&0x7F) << (7 * (i - 1))
		if b[i] < 0x80 {
			if len(b)-i-1 < n {
				return 0, nil, b, false, nil
			}
			return b[0], b[i+1 : i+1+n], b[i+1+n:], true, nil
		}
	}
}

// Ack is a PUBACK: whose it is and what the broker said. Code is 0 in MQTT
// 3.1.1; from 0x80 on the broker refused the message.
type Ack struct {
	ID   uint16
	Code byte
}

// ParseAck reads the body of a PUBACK.
func ParseAck(body []byte) (Ack, error) {
	if len(body) < 2 {
		return Ack{}, fmt.Errorf("read PUBACK: %d bytes are too few", len(body))
	}
	a := Ack{ID: binary.BigEndian.Uint16(body)}
	if len(body) > 2 {
		a.Code = body[2]
	}
	return a, nil
}

// appendSubscribe appends a SUBSCRIBE packet for one filter to b.
func appendSubscribe(b []byte, version byte, filter string, qos byte) []byte {
	n := 2 + 2 + len(filter) + 1
	if version == 5 {
		n++
	}
	b = append(b, 0x82)
	b = appendLength(b, n)
	b = append(b, 0, 1) // packet identifier
	if version == 5 {
		b = append(b, 0) // no properties
	}
	return append(appendString(b, filter), qos)
}

var errPublish = errors.New("read PUBLISH: it is cut short")

// cutPublish returns the payload of a PUBLISH packet, and its packet
// identifier, which is 0 at QoS 0.
func cutPublish(first, version byte, body []byte) (payload []byte, id uint16, err error) {
	skip := func(n int) {
		if err == nil && n > len(body) {
			err = errPublish
		}
		if err == nil {
			body = body[n:]
		}
	}
	if len(body) < 2 {
		return nil, 0, errPublish
	}
	skip(2 + int(binary.BigEndian.Uint16(body)))
	if first&6 != 0 {
		if len(body) < 2 {
			return nil, 0, errPublish
		}
		id = binary.BigEndian.Uint16(body)
		skip(2)
	}
	if version == 5 {
		n, used := binary.Uvarint(body[:min(len(body), 4)])
		if used <= 0 {
			return nil, 0, errPublish
		}
		skip(used + int(n))
	}
	return body, id, err
}

// ParseConnack reports why the broker refused the connection, nil if it did
// not. The error is a [*RefusedError], without an address, if there is a reason.
func ParseConnack(first byte, body []byte) error {
	if first>>4 != typeConnack || len(body) < 2 {
		return fmt.Errorf("it answered CONNECT with packet type %d instead of CONNACK", first>>4)
	}
	if body[1] != 0 {
		return &RefusedError{Code: body[1]}
	}
	return nil
}

// RefusedError is the answer of a broker that is there and does not want the
// client.
type RefusedError struct {
	Addr string // of the broker
	Code byte   // of CONNACK: below 0x80 from MQTT 3.1.1, section 3.2.2.3; else from MQTT 5, section 3.2.2.2
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("connect to %s: refused with code 0x%02x", e.Addr, e.Code)
}
