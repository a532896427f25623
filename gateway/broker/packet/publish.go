package packet

import (
	"encoding/binary"

	"holdfast/gateway/event"
)

// Publish is a PUBLISH (3.3) that has been received; its slices point into the
// packet.
type Publish struct {
	Topic      []byte
	Payload    []byte
	Properties []byte // of MQTT 5, without their length; see ParseProperties
	ID         uint16 // the packet identifier, 0 at QoS 0
	QoS        byte
	Dup        bool
	Retain     bool
}

// ParsePublish takes a PUBLISH apart whose first byte has been checked. It does
// not look into topic and properties: with a topic alias the topic is empty,
// and most publishers send the same one again and again.
func ParsePublish(first byte, body []byte, v5 bool) (p Publish, err error) {
	p.QoS, p.Dup, p.Retain = first>>1&3, first&8 != 0, first&1 != 0
	if len(body) < 2 {
		return p, malformed("PUBLISH cut short")
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	if len(body) < n {
		return p, malformed("PUBLISH topic cut short")
	}
	p.Topic, body = body[2:n], body[n:]
	if p.QoS > 0 {
		if len(body) < 2 {
			return p, malformed("PUBLISH packet identifier cut short")
		}
		if p.ID = binary.BigEndian.Uint16(body); p.ID == 0 {
			return p, protocolError("PUBLISH with packet identifier 0") // [MQTT-2.2.1-3]
		}
		body = body[2:]
	}
	if v5 {
		if p.Properties, body, err = cutProperties(body); err != nil {
			return p, err
		}
	}
	p.Payload = body
	return p, nil
}

// Delivery is an event on its way to one subscriber.
type Delivery struct {
	Event  *event.Event
	QoS    byte
	ID     uint16 // the packet identifier, if QoS > 0
	Retain bool
	Dup    bool

	// For MQTT 5.
	Expiry          uint32 // what is left of it, in seconds, if the event has one
	SubscriptionIDs []int  // of the subscriptions that match
	Alias           uint16 // of the topic; 0 if it has none
	Bare            bool   // the client knows the alias: the topic is left out
}

// AppendPublish appends a PUBLISH unless it were larger than limit (0: no
// limit): ok is false then, and b as it was.
func AppendPublish(b []byte, d Delivery, v5 bool, limit int) (_ []byte, ok bool) {
	var scratch [512]byte
	props := scratch[:0]
	topic := d.Event.Topic
	if d.Bare {
		topic = ""
	}
	body := 2 + len(topic) + len(d.Event.Payload)
	if d.QoS > 0 {
		body += 2
	}
	if v5 {
		props = appendProperties(props, d)
		body += varintSize(len(props)) + len(props)
	}
	if limit > 0 && 1+varintSize(body)+body > limit {
		return b, false
	}
	first := byte(TypePublish<<4) | d.QoS<<1
	if d.Retain {
		first |= 1
	}
	if d.Dup {
		first |= 8
	}
	b = append(b, first)
	b = AppendVarint(b, body)
	b = AppendString(b, topic)
	if d.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, d.ID)
	}
	if v5 {
		b = AppendVarint(b, len(props))
		b = append(b, props...)
	}
	return append(b, d.Event.Payload...), true
}

func appendProperties(b []byte, d Delivery) []byte {
	if p := d.Event.Properties; p != nil {
		if p.UTF8 {
			b = append(b, PropPayloadFormat, 1)
		}
		if p.HasExpiry {
			b = binary.BigEndian.AppendUint32(append(b, PropMessageExpiry), d.Expiry)
		}
		if p.ResponseTopic != "" {
			b = AppendString(append(b, PropResponseTopic), p.ResponseTopic)
		}
		if len(p.CorrelationData) > 0 {
			b = binary.BigEndian.AppendUint16(append(b, PropCorrelationData), uint16(len(p.CorrelationData)))
			b = append(b, p.CorrelationData...)
		}
		for _, u := range p.User {
			b = AppendString(append(b, PropUser), u.Name)
			b = AppendString(b, u.Value)
		}
	}
	if d.Event.ContentType != "" {
		b = AppendString(append(b, PropContentType), d.Event.ContentType)
	}
	if d.Alias > 0 {
		b = binary.BigEndian.AppendUint16(append(b, PropTopicAlias), d.Alias)
	}
	for _, id := range d.SubscriptionIDs {
		b = AppendVarint(append(b, PropSubscriptionID), id)
	}
	return b
}
