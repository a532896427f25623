// Package packet is the wire format of MQTT 3.1.1 and 5, as a server needs it:
// what a client sends is taken apart and checked to the last byte, and what it
// is sent is put together. The package knows bytes and nothing else: no socket,
// no session, no log. Clauses in brackets are those of MQTT 5, unless 3.1.1 is
// named.
//
// Reading goes in two steps. [ReadHeader] measures the packet at the start of a
// buffer, so that a caller can wait for the rest of it or refuse it before
// memory is spent; then the Parse function of its type takes the body, which is
// all behind the header. What these return points into the body unless it is a
// string. An error is a [*Violation], with the reason code for the client.
//
// Writing is a matter of the Append functions. They append a whole packet and,
// like append, return the longer slice.
//
// The two versions of the protocol differ in what a packet may hold; v5 says
// which one the connection speaks.
package packet

// The control packet types (2.1.2). AUTH is not among them: no method of
// authentication is supported.
const (
	TypeConnect     = 1
	TypeConnack     = 2
	TypePublish     = 3
	TypePuback      = 4
	TypePubrec      = 5
	TypePubrel      = 6
	TypePubcomp     = 7
	TypeSubscribe   = 8
	TypeSuback      = 9
	TypeUnsubscribe = 10
	TypeUnsuback    = 11
	TypePingreq     = 12
	TypePingresp    = 13
	TypeDisconnect  = 14
)

// Header is the fixed header of a packet (2.1).
type Header struct {
	First     byte // type and flags
	Size      int  // bytes of the header itself
	Remaining int  // bytes behind it: the Remaining Length
}

// Type returns the control packet type.
func (h Header) Type() byte { return h.First >> 4 }

// Len returns the length of the whole packet.
func (h Header) Len() int { return h.Size + h.Remaining }

// ReadHeader reads the fixed header at the start of b; ok is false while it
// is incomplete. All it checks is that the remaining length ends.
func ReadHeader(b []byte) (h Header, ok bool, err error) {
	length := 0
	for i := 1; i < len(b); i++ {
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			return Header{b[0], i + 1, length}, true, nil
		}
		if i == 4 {
			return h, false, malformed("remaining length of more than four bytes")
		}
	}
	return h, false, nil
}

// CheckLength reports a remaining length that takes more bytes than it needs,
// which MQTT 5 forbids [MQTT-1.5.5-1] and 3.1.1 does not.
func (h Header) CheckLength() error {
	if h.Size > 2 && h.Remaining < 1<<(7*(h.Size-2)) {
		return malformed("remaining length of more bytes than it needs")
	}
	return nil
}

// CheckFirst reports what is wrong with the first byte, type and flags, of a
// packet that a client sent after its CONNECT.
func CheckFirst(first byte) error {
	flags := first & 0x0f
	switch first >> 4 {
	case TypePublish:
		qos := flags >> 1 & 3
		if qos == 3 {
			return malformed("PUBLISH with QoS 3") // [MQTT-3.3.1-4]
		}
		if qos == 0 && flags&8 != 0 {
			return malformed("PUBLISH with DUP at QoS 0") // [MQTT-3.3.1-2]
		}
		return nil
	case TypePubrel, TypeSubscribe, TypeUnsubscribe:
		if flags != 2 {
			return malformed("reserved flags")
		}
		return nil
	case TypePuback, TypePubrec, TypePubcomp, TypePingreq, TypeDisconnect:
		if flags != 0 {
			return malformed("reserved flags")
		}
		return nil
	case TypeConnect:
		return protocolError("second CONNECT") // [MQTT-3.1.0-2]
	}
	// AUTH among them: no authentication method was agreed on.
	return protocolError("packet type that a client must not send")
}

// AppendPingresp appends a PINGRESP (3.13).
func AppendPingresp(b []byte) []byte { return append(b, TypePingresp<<4, 0) }
