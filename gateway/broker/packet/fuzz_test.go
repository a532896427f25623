package packet

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mochi-mqtt/server/v2/packets"

	"holdfast/gateway/event"
)

var limits = Limits{TopicBytes: 4096, TopicLevels: 128, Filters: 1000}

// The decoders of mochi-mqtt are another opinion on what was taken. They need
// not be asked about what was refused: they take more than is allowed.
func foreign(typ byte, body []byte, v5 bool) packets.Packet {
	m := packets.Packet{FixedHeader: packets.FixedHeader{Type: typ, Remaining: len(body)}, ProtocolVersion: 4}
	if v5 {
		m.ProtocolVersion = 5
	}
	return m
}

// FuzzAck: what is taken has the same meaning for another decoder.
func FuzzAck(f *testing.F) {
	f.Add(byte(TypePuback), []byte{0, 1}, false)
	f.Add(byte(TypePubrec), []byte{0, 1, 0x80, 4, PropReasonString, 0, 1, 'x'}, true)
	f.Fuzz(func(t *testing.T, typ byte, body []byte, v5 bool) {
		typ = TypePuback + typ%4
		a, err := ParseAck(typ, body, v5)
		if err != nil {
			return
		}
		m := foreign(typ, body, v5)
		decode := []func([]byte) error{m.PubackDecode, m.PubrecDecode, m.PubrelDecode, m.PubcompDecode}[typ-TypePuback]
		if err := decode(bytes.Clone(body)); err != nil {
			t.Fatalf("mochi refuses what was taken: %v", err)
		}
		if m.PacketID != a.ID || m.ReasonCode != a.Reason {
			t.Fatalf("mochi reads\n%+v\nbut it was taken as\n%+v", m, a)
		}
	})
}

// FuzzDisconnect: what is taken has the same meaning for another decoder.
func FuzzDisconnect(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add([]byte{DisconnectWithWill}, true)
	f.Add([]byte{DisconnectWithWill, 5, PropSessionExpiry, 0, 0, 0, 9}, true)
	f.Add([]byte{Success, 7, PropUser, 0, 1, 'k', 0, 1, 'v'}, true)
	f.Fuzz(func(t *testing.T, body []byte, v5 bool) {
		d, err := ParseDisconnect(body, v5)
		if err != nil {
			return
		}
		m := foreign(TypeDisconnect, body, v5)
		if err := m.DisconnectDecode(bytes.Clone(body)); err != nil {
			t.Fatalf("mochi refuses what was taken: %v", err)
		}
		if len(body) == 1 {
			m.ReasonCode = body[0] // mochi does not look at a reason that stands alone
		}
		if m.ReasonCode != d.Reason || m.Properties.SessionExpiryInterval != d.SessionExpiry || m.Properties.SessionExpiryIntervalFlag != d.HasSessionExpiry {
			t.Fatalf("mochi reads\n%+v\nbut it was taken as\n%+v", m, d)
		}
	})
}

// FuzzPublish: no bytes upset the parser, and what it takes has the same
// meaning for another decoder.
func FuzzPublish(f *testing.F) {
	for _, v5 := range []bool{false, true} {
		for _, d := range []Delivery{
			{Event: &event.Event{Topic: "a/b", Payload: []byte("x")}, QoS: 1, ID: 9},
			{Event: &event.Event{Topic: "a", Properties: &event.Properties{UTF8: true, HasExpiry: true}}, Expiry: 1, Alias: 3},
			{Event: &event.Event{Topic: "a", Properties: &event.Properties{CorrelationData: []byte{0xff}, User: []event.Property{{Name: "k", Value: "v"}}}}},
		} {
			b, _ := AppendPublish(nil, d, v5, 0)
			f.Add(b[0], b[2:], v5)
		}
	}
	f.Fuzz(func(t *testing.T, first byte, body []byte, v5 bool) {
		first = TypePublish<<4 | first&0x0f
		if CheckFirst(first) != nil {
			return
		}
		p, err := ParsePublish(first, body, v5)
		if err != nil || limits.CheckTopic(p.Topic) != nil {
			return
		}
		props, err := ParseProperties(p.Properties, PublishProperties)
		if err != nil {
			return
		}
		m := foreign(TypePublish, body, v5)
		m.FixedHeader.Qos = p.QoS
		if err := m.PublishDecode(bytes.Clone(body)); err != nil {
			t.Fatalf("mochi refuses what was taken: %v", err)
		}
		if m.TopicName != string(p.Topic) || m.PacketID != p.ID || !bytes.Equal(m.Payload, p.Payload) ||
			m.Properties.ContentType != props.ContentType || m.Properties.ResponseTopic != props.ResponseTopic ||
			m.Properties.TopicAlias != props.TopicAlias || m.Properties.MessageExpiryInterval != props.MessageExpiry ||
			!bytes.Equal(m.Properties.CorrelationData, props.Correlation) || len(m.Properties.User) != len(props.User) {
			t.Fatalf("mochi reads\n%+v\nbut it was taken as\n%+v\n%+v", m, p, props)
		}
	})
}

// FuzzSubscribe: what is taken has the same meaning for another decoder, and
// does not upset it: one filter without its options ends mochi's process.
func FuzzSubscribe(f *testing.F) {
	f.Add(byte(TypeSubscribe), []byte{0, 1, 0, 0, 1, 'a'}, true)
	f.Add(byte(TypeSubscribe), []byte{0, 1, 0, 0, 1, 'a', 0}, true)
	f.Add(byte(TypeSubscribe), []byte{0, 1, 2, PropSubscriptionID, 9, 0, 1, 'a', 0}, true)
	f.Add(byte(TypeUnsubscribe), []byte{0, 1, 0, 1, 'a'}, false)
	f.Fuzz(func(t *testing.T, typ byte, body []byte, v5 bool) {
		var s Subscribe
		var err error
		if typ == TypeSubscribe {
			s, err = limits.ParseSubscribe(body, v5)
		} else {
			var u Unsubscribe
			u, err = limits.ParseUnsubscribe(body, v5)
			s.ID, typ = u.ID, TypeUnsubscribe
			for _, filter := range u.Filters {
				s.Subscriptions = append(s.Subscriptions, Subscription{Filter: filter})
			}
		}
		if err != nil {
			return
		}
		m := foreign(typ, body, v5)
		m.FixedHeader.Qos = 1
		if typ == TypeSubscribe {
			err = m.SubscribeDecode(body)
		} else {
			err = m.UnsubscribeDecode(body)
		}
		if err != nil {
			t.Fatalf("mochi refuses what was taken: %v", err)
		}
		got := Subscribe{ID: m.PacketID}
		if len(m.Properties.SubscriptionIdentifier) > 0 {
			got.SubscriptionID = m.Properties.SubscriptionIdentifier[0]
		}
		for i, sub := range m.Filters {
			got.Subscriptions = append(got.Subscriptions, Subscription{Filter: sub.Filter, Options: s.Subscriptions[i].Options&^3 | sub.Qos})
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Fatalf("-taken +mochi reads:\n%s", diff)
		}
	})
}
