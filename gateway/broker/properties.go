package broker

import (
	"bytes"
	"encoding/binary"
	"strings"

	"holdfast/gateway/event"
)

// Properties that a client may send (MQTT 5, 2.2.2.2).
const (
	propFormat          = 0x01
	propExpiry          = 0x02
	propContentType     = 0x03
	propResponseTopic   = 0x08
	propCorrelation     = 0x09
	propSubscriptionID  = 0x0B
	propSessionExpiry   = 0x11
	propAuthMethod      = 0x15
	propAuthData        = 0x16
	propRequestProblem  = 0x17
	propWillDelay       = 0x18
	propRequestResponse = 0x19
	propReason          = 0x1F
	propReceiveMaximum  = 0x21
	propAliasMaximum    = 0x22
	propTopicAlias      = 0x23
	propUser            = 0x26
	propMaximumPacket   = 0x27
)

// properties are the properties of a packet, as far as the broker looks at
// them; strings are copies.
type properties struct {
	seen        uint64 // bit n is set when property n was there
	expiry      uint32 // of the message
	delay       uint32 // of the will
	format      byte
	alias       uint16
	contentType string
	response    string
	correlation []byte // points into the packet
	user        []event.Property
}

func (p *properties) has(id byte) bool { return p.seen&(1<<id) != 0 }

// The properties allowed in each packet, as bits.
const (
	publishProps = 1<<propFormat | 1<<propExpiry | 1<<propContentType | 1<<propResponseTopic |
		1<<propCorrelation | 1<<propTopicAlias | 1<<propUser
	subscribeProps   = 1<<propSubscriptionID | 1<<propUser
	unsubscribeProps = 1 << propUser
	ackProps         = 1<<propReason | 1<<propUser
	disconnectProps  = 1<<propSessionExpiry | 1<<propReason | 1<<propUser
	connectProps     = 1<<propSessionExpiry | 1<<propAuthMethod | 1<<propAuthData | 1<<propRequestProblem |
		1<<propRequestResponse | 1<<propReceiveMaximum | 1<<propAliasMaximum | 1<<propUser | 1<<propMaximumPacket
	willProps = 1<<propWillDelay | publishProps&^(1<<propTopicAlias)
)

// parseProperties reads a property block in which the properties of allowed
// may occur, each at most once but for user properties.
func parseProperties(b []byte, allowed uint64) (p properties, err error) {
	text := string(b) // one copy, of which all strings are parts
	for len(b) > 0 {
		id := b[0]
		switch {
		case id > 63 || allowed&(1<<id) == 0:
			if id == propSubscriptionID { // [MQTT-3.3.4-6]
				return p, protocolError("subscription identifier in a packet of a client")
			}
			return p, malformed("property that does not belong here")
		case id != propUser && p.has(id):
			return p, protocolError("property given twice")
		}
		p.seen |= 1 << id
		b = b[1:]
		at := len(text) - len(b)
		var size int
		switch id {
		case propFormat, propRequestProblem, propRequestResponse:
			size = 1
		case propTopicAlias, propReceiveMaximum, propAliasMaximum:
			size = 2
		case propExpiry, propSessionExpiry, propWillDelay, propMaximumPacket:
			size = 4
		case propSubscriptionID:
			n, rest, ok := cutVarint(b)
			if ok && n == 0 {
				return p, protocolError("subscription identifier 0")
			}
			if size = len(b) - len(rest); !ok {
				size = len(b) + 1
			}
		default:
			if size = 2; len(b) >= 2 {
				size += int(binary.BigEndian.Uint16(b))
			}
		}
		if size > len(b) {
			return p, malformed("property cut short")
		}
		v := b[:size]
		b = b[size:]
		switch id {
		case propFormat:
			if p.format = v[0]; p.format > 1 {
				return p, protocolError("payload format indicator that is neither 0 nor 1")
			}
		case propRequestProblem, propRequestResponse:
			if v[0] > 1 {
				return p, protocolError("request that is neither 0 nor 1")
			}
		case propReceiveMaximum, propMaximumPacket:
			if bytes.Count(v, []byte{0}) == len(v) {
				return p, protocolError("maximum of 0")
			}
		case propWillDelay:
			p.delay = binary.BigEndian.Uint32(v)
		case propTopicAlias:
			p.alias = binary.BigEndian.Uint16(v)
		case propExpiry:
			p.expiry = binary.BigEndian.Uint32(v)
		case propCorrelation:
			p.correlation = v[2:]
		case propContentType, propResponseTopic, propReason, propUser, propAuthMethod:
			if !validText(v[2:]) {
				return p, malformed("property is not UTF-8 text")
			}
			s := text[at+2 : at+size]
			switch id {
			case propContentType:
				p.contentType = s
			case propResponseTopic:
				if s == "" || strings.ContainsAny(s, "+#") { // [MQTT-3.3.2-14]
					return p, protocolError("response topic with a wildcard")
				}
				p.response = s
			case propUser:
				if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
					return p, malformed("user property cut short")
				}
				n := 2 + int(binary.BigEndian.Uint16(b))
				if !validText(b[2:n]) {
					return p, malformed("property is not UTF-8 text")
				}
				at = len(text) - len(b)
				p.user = append(p.user, event.Property{Name: s, Value: text[at+2 : at+n]})
				b = b[n:]
			}
		}
	}
	return p, nil
}
