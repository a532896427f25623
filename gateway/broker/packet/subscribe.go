package packet

import (
	"encoding/binary"
	"fmt"
)

// Subscribe is a SUBSCRIBE (3.8).
type Subscribe struct {
	ID             uint16 // the packet identifier
	SubscriptionID int    // 0: none
	Subscriptions  []Subscription
}

// Subscription is one that a client asks for.
type Subscription struct {
	Filter  string
	Options byte // as on the wire (3.8.3.1); of 3.1.1, the QoS
}

// Unsubscribe is an UNSUBSCRIBE (3.10).
type Unsubscribe struct {
	ID      uint16 // the packet identifier
	Filters []string
}

// ParseSubscribe takes a SUBSCRIBE apart.
func (l *Limits) ParseSubscribe(body []byte, v5 bool) (s Subscribe, err error) {
	id, props, body, err := cutRequest(body, v5, subscribeProperties)
	if err != nil {
		return s, err
	}
	s.ID, s.SubscriptionID = id, props.SubscriptionID
	for len(body) > 0 {
		filter, shared, rest, err := l.cutFilter(body, len(s.Subscriptions))
		if err != nil {
			return s, err
		}
		if len(rest) == 0 {
			return s, malformed("topic filter without options") // [MQTT-3.8.3-5]
		}
		if err := checkOptions(rest[0], shared, v5); err != nil {
			return s, err
		}
		s.Subscriptions = append(s.Subscriptions, Subscription{filter, rest[0]})
		body = rest[1:]
	}
	return s, nil
}

// ParseUnsubscribe takes an UNSUBSCRIBE apart.
func (l *Limits) ParseUnsubscribe(body []byte, v5 bool) (u Unsubscribe, err error) {
	id, _, body, err := cutRequest(body, v5, unsubscribeProperties)
	if err != nil {
		return u, err
	}
	u.ID = id
	for len(body) > 0 {
		filter, _, rest, err := l.cutFilter(body, len(u.Filters))
		if err != nil {
			return u, err
		}
		u.Filters = append(u.Filters, filter)
		body = rest
	}
	return u, nil
}

// cutRequest splits a SUBSCRIBE or UNSUBSCRIBE before its topic filters, of
// which there must be one.
func cutRequest(body []byte, v5 bool, allowed PropertySet) (id uint16, props Properties, rest []byte, err error) {
	if len(body) < 2 {
		return 0, props, nil, malformed("packet identifier cut short")
	}
	if id = binary.BigEndian.Uint16(body); id == 0 {
		return 0, props, nil, protocolError("packet identifier 0") // [MQTT-2.2.1-3]
	}
	rest = body[2:]
	if v5 {
		var block []byte
		if block, rest, err = cutProperties(rest); err != nil {
			return id, props, nil, err
		}
		if props, err = ParseProperties(block, allowed); err != nil {
			return id, props, nil, err
		}
	}
	if len(rest) == 0 {
		return id, props, nil, protocolError("no topic filter") // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
	}
	return id, props, rest, nil
}

// cutFilter splits b behind the topic filter at its start; so many were before
// it in the packet.
func (l *Limits) cutFilter(b []byte, before int) (filter string, shared bool, rest []byte, err error) {
	if before == l.Filters {
		return "", false, nil, &Violation{Reason: QuotaExceeded, What: fmt.Sprintf("more than %d topic filters in one packet", l.Filters)}
	}
	n := 2
	if len(b) >= 2 {
		n += int(binary.BigEndian.Uint16(b))
	}
	if len(b) < n {
		return "", false, nil, malformed("topic filter cut short")
	}
	filter, shared, err = l.checkFilter(b[2:n])
	return filter, shared, b[n:], err
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

// AppendSuback appends a SUBACK (3.9) with a reason code for each subscription.
func AppendSuback(b []byte, id uint16, reasons []byte, v5 bool) []byte {
	return appendAnswer(b, TypeSuback, id, reasons, v5)
}

// AppendUnsuback appends an UNSUBACK (3.11) with a reason code for each filter;
// in 3.1.1 it has none.
func AppendUnsuback(b []byte, id uint16, reasons []byte, v5 bool) []byte {
	if !v5 {
		reasons = nil
	}
	return appendAnswer(b, TypeUnsuback, id, reasons, v5)
}

func appendAnswer(b []byte, typ byte, id uint16, reasons []byte, v5 bool) []byte {
	size := 2 + len(reasons)
	if v5 {
		size++
	}
	b = AppendVarint(append(b, typ<<4), size)
	b = binary.BigEndian.AppendUint16(b, id)
	if v5 {
		b = append(b, 0) // no properties
	}
	return append(b, reasons...)
}
