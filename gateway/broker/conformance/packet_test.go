package conformance

import (
	"encoding/binary"
	"fmt"
)

// version is the version of the protocol that a client speaks.
type version byte

const (
	v4 version = 4 // MQTT 3.1.1
	v5 version = 5
)

func (v version) String() string {
	if v == v5 {
		return "5"
	}
	return "3.1.1"
}

// First bytes of packets, with the flags that they must have.
const (
	CONNECT     = 0x10
	CONNACK     = 0x20
	PUBLISH     = 0x30
	PUBACK      = 0x40
	PUBREC      = 0x50
	PUBREL      = 0x62
	PUBCOMP     = 0x70
	SUBSCRIBE   = 0x82
	SUBACK      = 0x90
	UNSUBSCRIBE = 0xA2
	UNSUBACK    = 0xB0
	PINGREQ     = 0xC0
	PINGRESP    = 0xD0
	DISCONNECT  = 0xE0
	AUTH        = 0xF0
)

// Reason codes of MQTT 5.
const (
	malformed      = 0x81
	protocolError  = 0x82
	badVersion     = 0x84
	badClientID    = 0x85
	notAuthorized  = 0x87
	badMethod      = 0x8C
	keepAlive      = 0x8D
	takenOver      = 0x8E
	badFilter      = 0x8F
	badTopic       = 0x90
	unknownID      = 0x92
	receiveMaximum = 0x93
	badAlias       = 0x94
	tooLarge       = 0x95
)

// Properties of MQTT 5.
const (
	pFormat           = 0x01
	pMessageExpiry    = 0x02
	pContentType      = 0x03
	pResponseTopic    = 0x08
	pCorrelation      = 0x09
	pSubscriptionID   = 0x0B
	pSessionExpiry    = 0x11
	pAssignedID       = 0x12
	pServerKeepAlive  = 0x13
	pAuthMethod       = 0x15
	pAuthData         = 0x16
	pRequestProblem   = 0x17
	pWillDelay        = 0x18
	pRequestResponse  = 0x19
	pResponseInfo     = 0x1A
	pServerReference  = 0x1C
	pReason           = 0x1F
	pReceiveMaximum   = 0x21
	pTopicAliasMax    = 0x22
	pTopicAlias       = 0x23
	pUser             = 0x26
	pMaximumPacket    = 0x27
	unknownProperty   = 0x7E
	longestVarint     = 268_435_455
	maxPacketOfServer = 256 << 10 // what both servers are configured with
)

// cat joins bytes, strings (as UTF-8 strings with their length), numbers of
// one byte (int) and of two (uint16) and four (uint32).
func cat(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			b = append(b, p...)
		case string:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
		case rune:
			b = append(b, byte(p))
		case int:
			b = append(b, byte(p))
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		default:
			panic(fmt.Sprintf("cat: %T", p))
		}
	}
	return b
}

func varint(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// packet makes a packet of its first byte and what follows its length.
func packet(first int, parts ...any) []byte {
	body := cat(parts...)
	return cat(first, varint(len(body)), body)
}

// withLength makes properties with their length before them, where the version
// has properties.
func (v version) properties(props []byte) []byte {
	if v == v5 {
		return cat(varint(len(props)), props)
	}
	return nil
}

// hello is a CONNECT.
type hello struct {
	id        string // "" stands for a fresh one, see stage.connect
	keep      bool   // CleanSession or Clean Start 0
	lasts     uint32 // Session Expiry Interval of MQTT 5
	keepAlive uint16
	props     []byte
	will      *message
	willProps []byte
	user      *string
	password  *string
}

func (h hello) packet(v version) []byte {
	flags := 0
	if !h.keep {
		flags |= 2
	}
	if h.will != nil {
		flags |= 4 | int(h.will.qos)<<3
		if h.will.retain {
			flags |= 0x20
		}
	}
	if h.user != nil {
		flags |= 0x80
	}
	if h.password != nil {
		flags |= 0x40
	}
	props := h.props
	if h.lasts > 0 {
		props = cat(props, pSessionExpiry, h.lasts)
	}
	b := cat("MQTT", int(v), flags, h.keepAlive, v.properties(props), h.id)
	if h.will != nil {
		b = cat(b, v.properties(h.willProps), h.will.topic, h.will.payload)
	}
	if h.user != nil {
		b = cat(b, *h.user)
	}
	if h.password != nil {
		b = cat(b, *h.password)
	}
	return packet(CONNECT, b)
}

// message is a PUBLISH.
type message struct {
	topic   string
	payload string
	qos     byte
	id      uint16
	dup     bool
	retain  bool
	props   []byte
}

func (m message) packet(v version) []byte {
	first := PUBLISH | int(m.qos)<<1
	if m.dup {
		first |= 8
	}
	if m.retain {
		first |= 1
	}
	b := cat(m.topic)
	if m.qos > 0 {
		b = cat(b, m.id)
	}
	return packet(first, b, v.properties(m.props), []byte(m.payload))
}

// filter is a topic filter with the options of its subscription.
type filter struct {
	name    string
	options int
}

const (
	noLocal           = 4
	retainAsPublished = 8
	onlyIfNew         = 0x10 // retain handling
	neverRetained     = 0x20
)

func subscribe(v version, id uint16, props []byte, filters ...filter) []byte {
	b := cat(id, v.properties(props))
	for _, f := range filters {
		b = cat(b, f.name, f.options)
	}
	return packet(SUBSCRIBE, b)
}

func unsubscribe(v version, id uint16, filters ...string) []byte {
	b := cat(id, v.properties(nil))
	for _, f := range filters {
		b = cat(b, f)
	}
	return packet(UNSUBSCRIBE, b)
}

// ack is a PUBACK, PUBREC, PUBREL or PUBCOMP with no reason, which means
// success.
func ack(first int, id uint16) []byte { return packet(first, id) }

// received is a packet that came from the server.
type received struct {
	first byte
	body  []byte
}

func (r received) kind() byte { return r.first & 0xf0 }

func (r received) String() string {
	names := [16]string{1: "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
		"UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}
	body := r.body[:min(len(r.body), 40)]
	return fmt.Sprintf("%s %02x [% x]", names[r.first>>4], r.first, body)
}

// message takes a PUBLISH apart.
func (r received) message(v version) (m message, ok bool) {
	m = message{qos: r.first >> 1 & 3, dup: r.first&8 != 0, retain: r.first&1 != 0}
	b := r.body
	if len(b) < 2 {
		return m, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return m, false
	}
	m.topic, b = string(b[2:n]), b[n:]
	if m.qos > 0 {
		if len(b) < 2 {
			return m, false
		}
		m.id, b = binary.BigEndian.Uint16(b), b[2:]
	}
	if v == v5 {
		if m.props, b, ok = cutProperties(b); !ok {
			return m, false
		}
	}
	m.payload = string(b)
	return m, true
}

func cutProperties(b []byte) (props, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || uint64(len(b)-size) < n {
		return nil, nil, false
	}
	return b[size:][:n], b[size:][n:], true
}

// values returns the values of a property, as they are on the wire but for the
// length of strings. A user property is name=value.
func values(props []byte, of byte) (all []string) {
	for len(props) > 0 {
		id := props[0]
		props = props[1:]
		text := func() string {
			n := int(binary.BigEndian.Uint16(props))
			s := string(props[2 : 2+n])
			props = props[2+n:]
			return s
		}
		var v string
		size := 0
		switch id {
		case pFormat, pRequestProblem, pRequestResponse, 0x24, 0x25, 0x28, 0x29, 0x2A:
			size = 1
		case pServerKeepAlive, pReceiveMaximum, pTopicAliasMax, pTopicAlias:
			size = 2
		case pMessageExpiry, pSessionExpiry, pWillDelay, pMaximumPacket:
			size = 4
		case pSubscriptionID:
			_, size = binary.Uvarint(props)
		case pUser:
			v = text() + "="
			v += text()
		default:
			v = text()
		}
		if size > 0 {
			v, props = string(props[:size]), props[size:]
		}
		if id == of {
			all = append(all, v)
		}
	}
	return all
}
