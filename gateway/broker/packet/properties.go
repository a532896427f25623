package packet

import (
	"bytes"
	"encoding/binary"
	"strings"

	"holdfast/gateway/event"
)

// Identifiers of the properties that a client may send (2.2.2.2).
const (
	PropPayloadFormat     = 0x01
	PropMessageExpiry     = 0x02
	PropContentType       = 0x03
	PropResponseTopic     = 0x08
	PropCorrelationData   = 0x09
	PropSubscriptionID    = 0x0B
	PropSessionExpiry     = 0x11
	PropAuthMethod        = 0x15
	PropAuthData          = 0x16
	PropRequestProblem    = 0x17
	PropWillDelay         = 0x18
	PropRequestResponse   = 0x19
	PropReasonString      = 0x1F
	PropReceiveMaximum    = 0x21
	PropTopicAliasMaximum = 0x22
	PropTopicAlias        = 0x23
	PropUser              = 0x26
	PropMaximumPacketSize = 0x27
)

// PropertySet is a set of properties: bit n stands for the one with the
// identifier n.
type PropertySet uint64

// Which properties a client may send in which packet.
const (
	PublishProperties PropertySet = 1<<PropPayloadFormat | 1<<PropMessageExpiry | 1<<PropContentType | 1<<PropResponseTopic |
		1<<PropCorrelationData | 1<<PropTopicAlias | 1<<PropUser
	subscribeProperties   PropertySet = 1<<PropSubscriptionID | 1<<PropUser
	unsubscribeProperties PropertySet = 1 << PropUser
	ackProperties         PropertySet = 1<<PropReasonString | 1<<PropUser
	disconnectProperties  PropertySet = 1<<PropSessionExpiry | 1<<PropReasonString | 1<<PropUser
	connectProperties     PropertySet = 1<<PropSessionExpiry | 1<<PropAuthMethod | 1<<PropAuthData | 1<<PropRequestProblem |
		1<<PropRequestResponse | 1<<PropReceiveMaximum | 1<<PropTopicAliasMaximum | 1<<PropUser | 1<<PropMaximumPacketSize
	willProperties = 1<<PropWillDelay | PublishProperties&^(1<<PropTopicAlias)
)

// Properties are those of one packet, as far as somebody looks at them. Which
// of them were there, Has tells. Strings are copies.
type Properties struct {
	set            PropertySet
	MessageExpiry  uint32 // seconds
	SessionExpiry  uint32 // seconds
	WillDelay      uint32 // seconds
	PayloadFormat  byte   // 1: the payload is UTF-8 text
	TopicAlias     uint16
	SubscriptionID int
	ContentType    string
	ResponseTopic  string
	Correlation    []byte // points into the packet
	User           []event.Property
}

// Has reports whether the property with the identifier was there.
func (p *Properties) Has(id byte) bool { return p.set&(1<<id) != 0 }

// Apply sets in an event what the properties of its PUBLISH say about it. A
// user property traceparent is its trace.
func (p *Properties) Apply(e *event.Event) {
	if p.set&^(1<<PropTopicAlias) == 0 {
		return
	}
	e.ContentType = p.ContentType
	for _, u := range p.User {
		if u.Name == "traceparent" {
			e.Trace = u.Value
		}
	}
	if p.set&^(1<<PropTopicAlias|1<<PropContentType) == 0 {
		return
	}
	e.Properties = &event.Properties{
		Expiry:          p.MessageExpiry,
		HasExpiry:       p.Has(PropMessageExpiry),
		UTF8:            p.PayloadFormat == 1,
		ResponseTopic:   p.ResponseTopic,
		CorrelationData: p.Correlation,
		User:            p.User,
	}
}

// cutProperties splits b behind the property block at its start.
func cutProperties(b []byte) (props, rest []byte, err error) {
	n, rest, ok := cutVarint(b)
	if !ok || n > len(rest) {
		return nil, nil, malformed("properties cut short")
	}
	return rest[:n], rest[n:], nil
}

// lastProperties reads a property block that ends its packet.
func lastProperties(b []byte, allowed PropertySet) (p Properties, err error) {
	props, rest, err := cutProperties(b)
	if err != nil {
		return p, err
	}
	if len(rest) > 0 {
		return p, malformed("bytes behind the properties")
	}
	return ParseProperties(props, allowed)
}

// ParseProperties reads a property block, without its length, in which the
// properties of allowed may occur, each at most once but for user properties.
func ParseProperties(b []byte, allowed PropertySet) (p Properties, err error) {
	text := string(b) // one copy, of which all strings are parts
	for len(b) > 0 {
		id := b[0]
		switch {
		case id > 63 || allowed&(1<<id) == 0:
			if id == PropSubscriptionID { // [MQTT-3.3.4-6]
				return p, protocolError("subscription identifier in a packet of a client")
			}
			return p, malformed("property that does not belong here")
		case id != PropUser && p.Has(id):
			return p, protocolError("property given twice")
		}
		p.set |= 1 << id
		b = b[1:]
		at := len(text) - len(b)
		var size int
		switch id {
		case PropPayloadFormat, PropRequestProblem, PropRequestResponse:
			size = 1
		case PropTopicAlias, PropReceiveMaximum, PropTopicAliasMaximum:
			size = 2
		case PropMessageExpiry, PropSessionExpiry, PropWillDelay, PropMaximumPacketSize:
			size = 4
		case PropSubscriptionID:
			n, rest, ok := cutVarint(b)
			if ok && n == 0 {
				return p, protocolError("subscription identifier 0")
			}
			p.SubscriptionID = n
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
		case PropPayloadFormat:
			if p.PayloadFormat = v[0]; p.PayloadFormat > 1 {
				return p, protocolError("payload format indicator that is neither 0 nor 1")
			}
		case PropRequestProblem, PropRequestResponse:
			if v[0] > 1 {
				return p, protocolError("request that is neither 0 nor 1")
			}
		case PropReceiveMaximum, PropMaximumPacketSize:
			if bytes.Count(v, []byte{0}) == len(v) {
				return p, protocolError("maximum of 0")
			}
		case PropSessionExpiry:
			p.SessionExpiry = binary.BigEndian.Uint32(v)
		case PropWillDelay:
			p.WillDelay = binary.BigEndian.Uint32(v)
		case PropTopicAlias:
			p.TopicAlias = binary.BigEndian.Uint16(v)
		case PropMessageExpiry:
			p.MessageExpiry = binary.BigEndian.Uint32(v)
		case PropCorrelationData:
			p.Correlation = v[2:]
		case PropContentType, PropResponseTopic, PropReasonString, PropUser, PropAuthMethod:
			if !validText(v[2:]) {
				return p, malformed("property is not UTF-8 text")
			}
			s := text[at+2 : at+size]
			switch id {
			case PropContentType:
				p.ContentType = s
			case PropResponseTopic:
				if s == "" || strings.ContainsAny(s, "+#") { // [MQTT-3.3.2-14]
					return p, protocolError("response topic with a wildcard")
				}
				p.ResponseTopic = s
			case PropUser:
				if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
					return p, malformed("user property cut short")
				}
				n := 2 + int(binary.BigEndian.Uint16(b))
				if !validText(b[2:n]) {
					return p, malformed("property is not UTF-8 text")
				}
				at = len(text) - len(b)
				p.User = append(p.User, event.Property{Name: s, Value: text[at+2 : at+n]})
				b = b[n:]
			}
		}
	}
	return p, nil
}
