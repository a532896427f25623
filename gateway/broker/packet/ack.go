package packet

import (
	"encoding/binary"
	"strings"
)

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP (3.4 to 3.7). Four bytes, as on
// the wire.
type Ack struct {
	Type   byte
	Reason byte
	ID     uint16 // the packet identifier
}

// Reason codes that a client may give (tables 3-4 to 3-7).
const (
	takenReasons    = "\x00\x10\x80\x83\x87\x90\x91\x97\x99" // PUBACK and PUBREC
	releasedReasons = "\x00\x92"                             // PUBREL and PUBCOMP
)

// ParseAck takes an acknowledgement of a client apart.
func ParseAck(typ byte, body []byte, v5 bool) (a Ack, err error) {
	reasons := takenReasons
	if typ == TypePubrel || typ == TypePubcomp {
		reasons = releasedReasons
	}
	if len(body) < 2 || !v5 && len(body) > 2 {
		return a, malformed("acknowledgement of the wrong length")
	}
	a = Ack{Type: typ, ID: binary.BigEndian.Uint16(body)}
	if a.ID == 0 {
		return a, protocolError("acknowledgement of packet identifier 0")
	}
	if len(body) > 2 {
		a.Reason = body[2]
		if strings.IndexByte(reasons, a.Reason) < 0 { // [MQTT-3.4.2-1] and its kind
			return a, protocolError("acknowledgement with a reason that does not exist")
		}
	}
	if len(body) > 3 {
		_, err = lastProperties(body[3:], ackProperties)
	}
	return a, err
}

// AppendAck appends an acknowledgement. A 3.1.1 client gets no reason.
func AppendAck(b []byte, a Ack, v5 bool) []byte {
	first := a.Type << 4
	if a.Type == TypePubrel {
		first |= 2
	}
	if a.Reason != Success && v5 {
		return append(b, first, 3, byte(a.ID>>8), byte(a.ID), a.Reason)
	}
	return append(b, first, 2, byte(a.ID>>8), byte(a.ID))
}
