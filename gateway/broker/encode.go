package broker

import (
	"encoding/binary"

	"holdfast/gateway/event"
)

// ack is an acknowledgement that the broker owes a client. Four bytes, as on
// the wire.
type ack struct {
	kind   byte // typePuback, typePubrec or typePubcomp
	reason byte
	id     uint16
}

// appendAck appends the packet to b. A 3.1.1 client gets no reason.
func appendAck(b []byte, a ack, v5 bool) []byte {
	first := a.kind << 4
	if a.kind == typePubrel {
		first |= 2
	}
	if a.reason != codeSuccess && v5 {
		return append(b, first, 3, byte(a.id>>8), byte(a.id), a.reason)
	}
	return append(b, first, 2, byte(a.id>>8), byte(a.id))
}

// appendDisconnect appends a DISCONNECT with a reason, which MQTT 5 alone has.
func appendDisconnect(b []byte, reason byte) []byte {
	return append(b, typeDisconnect<<4, 2, reason, 0)
}

// delivery is an event on its way to one subscriber.
type delivery struct {
	e      *event.Event
	qos    byte
	id     uint16 // if qos > 0
	retain bool
	dup    bool
	expiry uint32 // what is left of it, if the event has one
	subs   []int  // identifiers of the subscriptions that match, for MQTT 5
	alias  uint16 // of the topic, for MQTT 5; 0 if it has none
	bare   bool   // the client knows the alias: the topic is left out
}

// appendPublish appends the PUBLISH packet to b, unless it were larger than
// limit (0: no limit): ok is false then.
func appendPublish(b []byte, d delivery, v5 bool, limit int) (_ []byte, ok bool) {
	var scratch [512]byte
	props := scratch[:0]
	topic := d.e.Topic
	if d.bare {
		topic = ""
	}
	body := 2 + len(topic) + len(d.e.Payload)
	if d.qos > 0 {
		body += 2
	}
	if v5 {
		props = appendProperties(props, d)
		body += varintSize(len(props)) + len(props)
	}
	if limit > 0 && 1+varintSize(body)+body > limit {
		return b, false
	}
	first := byte(typePublish<<4) | d.qos<<1
	if d.retain {
		first |= 1
	}
	if d.dup {
		first |= 8
	}
	b = append(b, first)
	b = appendVarint(b, body)
	b = appendText(b, topic)
	if d.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, d.id)
	}
	if v5 {
		b = appendVarint(b, len(props))
		b = append(b, props...)
	}
	return append(b, d.e.Payload...), true
}

func appendProperties(b []byte, d delivery) []byte {
	if p := d.e.Properties; p != nil {
		if p.UTF8 {
			b = append(b, propFormat, 1)
		}
		if p.HasExpiry {
			b = binary.BigEndian.AppendUint32(append(b, propExpiry), d.expiry)
		}
		if p.ResponseTopic != "" {
			b = appendText(append(b, propResponseTopic), p.ResponseTopic)
		}
		if len(p.CorrelationData) > 0 {
			b = binary.BigEndian.AppendUint16(append(b, propCorrelation), uint16(len(p.CorrelationData)))
			b = append(b, p.CorrelationData...)
		}
		for _, u := range p.User {
			b = appendText(append(b, propUser), u.Name)
			b = appendText(b, u.Value)
		}
	}
	if d.e.ContentType != "" {
		b = appendText(append(b, propContentType), d.e.ContentType)
	}
	if d.alias > 0 {
		b = binary.BigEndian.AppendUint16(append(b, propTopicAlias), d.alias)
	}
	for _, id := range d.subs {
		b = appendVarint(append(b, propSubscriptionID), id)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendVarint(b []byte, v int) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func varintSize(v int) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}
