package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"holdfast/gateway/event"
)

// Control packet types (MQTT 5, 2.1.2).
const (
	typeConnect     = 1
	typeConnack     = 2
	typePublish     = 3
	typePuback      = 4
	typePubrec      = 5
	typePubrel      = 6
	typePubcomp     = 7
	typeSubscribe   = 8
	typeUnsubscribe = 10
	typePingreq     = 12
	typeDisconnect  = 14
)

// Reason codes (MQTT 5, 2.4).
const (
	codeSuccess        = 0x00
	codeWithWill       = 0x04
	codeUnspecified    = 0x80
	codeMalformed      = 0x81
	codeProtocol       = 0x82
	codeBadVersion     = 0x84
	codeBadClientID    = 0x85
	codeNotAuthorized  = 0x87
	codeShuttingDown   = 0x8B
	codeBadAuthMethod  = 0x8C
	codeKeepAlive      = 0x8D
	codeTakenOver      = 0x8E
	codeBadFilter      = 0x8F
	codeBadTopic       = 0x90
	codeUnknownID      = 0x92
	codeReceiveMaximum = 0x93
	codeBadAlias       = 0x94
	codeTooLarge       = 0x95
	codeQuota          = 0x97
)

// violation is a breach of the protocol that ends the connection. The code is
// for MQTT 5; a 3.1.1 client is disconnected without a word, but for code3
// where that is set.
type violation struct {
	code   byte
	code3  byte // of the CONNACK of 3.1.1, if it is to have one
	denied bool // it is none: the client may not do this
	what   string
}

func (v *violation) Error() string { return v.what }

func malformed(what string) error     { return &violation{code: codeMalformed, what: what} }
func protocolError(what string) error { return &violation{code: codeProtocol, what: what} }

// header is the fixed header of a packet.
type header struct {
	first byte // type and flags
	size  int  // bytes of the header itself
	body  int  // bytes after it, the remaining length
}

func (h header) kind() byte { return h.first >> 4 }
func (h header) total() int { return h.size + h.body }

// padded reports whether the remaining length takes more bytes than it needs,
// which MQTT 5 forbids [MQTT-1.5.5-1].
func (h header) padded() bool { return h.size > 2 && h.body < 1<<(7*(h.size-2)) }

// readHeader reads the fixed header at the start of b; ok is false while it
// is incomplete.
func readHeader(b []byte) (h header, ok bool, err error) {
	length := 0
	for i := 1; i < len(b); i++ {
		length |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			return header{b[0], i + 1, length}, true, nil
		}
		if i == 4 {
			return h, false, malformed("remaining length of more than four bytes")
		}
	}
	return h, false, nil
}

// checkHeader reports what is wrong with type and flags of a packet that a
// client sent after its CONNECT.
func checkHeader(first byte, v5 bool) error {
	flags := first & 0x0f
	switch first >> 4 {
	case typePublish:
		qos := flags >> 1 & 3
		if qos == 3 {
			return malformed("PUBLISH with QoS 3") // [MQTT-3.3.1-4]
		}
		if qos == 0 && flags&8 != 0 {
			return malformed("PUBLISH with DUP at QoS 0") // [MQTT-3.3.1-2]
		}
		return nil
	case typePubrel, typeSubscribe, typeUnsubscribe:
		if flags != 2 {
			return malformed("reserved flags")
		}
		return nil
	case typePuback, typePubrec, typePubcomp, typePingreq, typeDisconnect:
		if flags != 0 {
			return malformed("reserved flags")
		}
		return nil
	case typeConnect:
		return protocolError("second CONNECT") // [MQTT-3.1.0-2]
	}
	// AUTH among them: no authentication method was agreed on.
	return protocolError("packet type that a client must not send")
}

// publish is a PUBLISH packet; its slices point into the packet.
type publish struct {
	topic   []byte
	payload []byte
	props   []byte // MQTT 5 properties without their length
	id      uint16 // 0 at QoS 0
	qos     byte
	dup     bool
	retain  bool
}

// parsePublish takes a PUBLISH apart whose header has been checked. It does
// not look into topic and properties.
func parsePublish(first byte, body []byte, v5 bool) (p publish, err error) {
	p.qos, p.dup, p.retain = first>>1&3, first&8 != 0, first&1 != 0
	if len(body) < 2 {
		return p, malformed("PUBLISH cut short")
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if len(body) < n {
		return p, malformed("PUBLISH topic cut short")
	}
	p.topic, body = body[2:n], body[n:]
	if p.qos > 0 {
		if len(body) < 2 {
			return p, malformed("PUBLISH packet identifier cut short")
		}
		if p.id = binary.BigEndian.Uint16(body); p.id == 0 {
			return p, protocolError("PUBLISH with packet identifier 0") // [MQTT-2.2.1-3]
		}
		body = body[2:]
	}
	if v5 {
		if p.props, body, err = cutProperties(body); err != nil {
			return p, err
		}
	}
	p.payload = body
	return p, nil
}

func validText(b []byte) bool { return bytes.IndexByte(b, 0) < 0 && utf8.Valid(b) }

// cutProperties splits b behind the property block at its start.
func cutProperties(b []byte) (props, rest []byte, err error) {
	n, rest, ok := cutVarint(b)
	if !ok || n > len(rest) {
		return nil, nil, malformed("properties cut short")
	}
	return rest[:n], rest[n:], nil
}

// cutVarint splits b behind the variable byte integer at its start, which must
// be as short as it can be [MQTT-1.5.5-1].
func cutVarint(b []byte) (v int, rest []byte, ok bool) {
	for i := 0; i < len(b) && i < 4; i++ {
		v |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, b[i+1:], b[i] != 0 || i == 0
		}
	}
	return 0, nil, false
}

// checkSubscribe reports what is wrong with a SUBSCRIBE or UNSUBSCRIBE.
// mochi must not see a filter without the options byte behind it: its decoder
// panics there and takes the process along.
func (l *Limits) checkSubscribe(kind byte, body []byte, v5 bool) error {
	if len(body) < 2 {
		return malformed("packet identifier cut short")
	}
	if binary.BigEndian.Uint16(body) == 0 {
		return protocolError("packet identifier 0") // [MQTT-2.2.1-3]
	}
	body = body[2:]
	if v5 {
		props, rest, err := cutProperties(body)
		if err != nil {
			return err
		}
		allowed := uint64(subscribeProps)
		if kind == typeUnsubscribe {
			allowed = unsubscribeProps
		}
		if _, err := parseProperties(props, allowed); err != nil {
			return err
		}
		body = rest
	}
	if len(body) == 0 {
		return protocolError("no topic filter") // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
	}
	for filters := 0; len(body) > 0; filters++ {
		if filters == l.Subscriptions {
			return &violation{code: codeQuota, what: fmt.Sprintf("more than %d topic filters in one packet", l.Subscriptions)}
		}
		n := 2
		if len(body) >= 2 {
			n += int(binary.BigEndian.Uint16(body))
		}
		if len(body) < n {
			return malformed("topic filter cut short")
		}
		filter := body[2:n]
		body = body[n:]
		shared, err := l.checkFilter(filter)
		if err != nil {
			return err
		}
		if kind == typeUnsubscribe {
			continue
		}
		if len(body) == 0 {
			return malformed("topic filter without options") // [MQTT-3.8.3-5]
		}
		if err := checkOptions(body[0], shared, v5); err != nil {
			return err
		}
		body = body[1:]
	}
	return nil
}

func checkOptions(o byte, shared, v5 bool) error {
	switch {
	case o&3 == 3:
		return malformed("subscription with QoS 3")
	case v5 && o>>4&3 == 3:
		return protocolError("subscription with retain handling 3")
	case v5 && o&0xc0 != 0, !v5 && o&0xfc != 0:
		return malformed("subscription with reserved options")
	case v5 && shared && o&4 != 0:
		return protocolError("shared subscription with no local") // [MQTT-3.8.3-4]
	}
	return nil
}

func (l *Limits) checkFilter(b []byte) (shared bool, err error) {
	if !validText(b) {
		return false, malformed("topic filter is not UTF-8 text")
	}
	if err := l.checkSize(b, codeBadFilter, "topic filter"); err != nil {
		return false, err
	}
	filter := string(b)
	if len(filter) >= 6 && strings.EqualFold(filter[:6], "$share") && (len(filter) == 6 || filter[6] == '/') {
		group, rest, ok := strings.Cut(filter[min(7, len(filter)):], "/")
		if !ok || group == "" || strings.ContainsAny(group, "+#") { // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
			return true, &violation{code: codeBadFilter, what: "shared subscription without a proper share name"}
		}
		shared, filter = true, rest
	}
	if err := event.CheckFilter(filter); err != nil {
		return shared, &violation{code: codeBadFilter, what: err.Error()}
	}
	return shared, nil
}

// Reason codes that a client may give (MQTT 5, tables 3-4 to 3-7 and 3-10).
const (
	takenReasons      = "\x00\x10\x80\x83\x87\x90\x91\x97\x99" // PUBACK and PUBREC
	releasedReasons   = "\x00\x92"                             // PUBREL and PUBCOMP
	disconnectReasons = "\x00\x04\x80\x81\x82\x83\x90\x93\x94\x95\x96\x97\x98\x99"
)

// checkAck reports what is wrong with a PUBACK, PUBREC, PUBREL or PUBCOMP.
func checkAck(kind byte, body []byte, v5 bool) error {
	reasons := takenReasons
	if kind == typePubrel || kind == typePubcomp {
		reasons = releasedReasons
	}
	switch {
	case len(body) < 2 || !v5 && len(body) > 2:
		return malformed("acknowledgement of the wrong length")
	case binary.BigEndian.Uint16(body) == 0:
		return protocolError("acknowledgement of packet identifier 0")
	case len(body) > 2 && strings.IndexByte(reasons, body[2]) < 0: // [MQTT-3.4.2-1] and its kind
		return protocolError("acknowledgement with a reason that does not exist")
	case len(body) > 3:
		return checkProperties(body[3:], ackProps)
	}
	return nil
}

// checkDisconnect reports what is wrong with a DISCONNECT, and its reason.
func checkDisconnect(body []byte, v5 bool) (reason byte, err error) {
	if len(body) == 0 {
		return codeSuccess, nil
	}
	if !v5 {
		return 0, malformed("DISCONNECT of the wrong length")
	}
	if strings.IndexByte(disconnectReasons, body[0]) < 0 { // [MQTT-3.14.2-1]
		return 0, protocolError("DISCONNECT with a reason that a client does not have")
	}
	if len(body) > 1 {
		err = checkProperties(body[1:], disconnectProps)
	}
	return body[0], err
}

// checkProperties checks a property block that ends the packet.
func checkProperties(b []byte, allowed uint64) error {
	props, rest, err := cutProperties(b)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return malformed("bytes behind the properties")
	}
	_, err = parseProperties(props, allowed)
	return err
}
