package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// rest waits. Only what the specification gives in seconds is waited for so.
func rest(seconds float64) { time.Sleep(time.Duration(seconds * float64(time.Second))) }

func deliveryPromises() []promise {
	return concat(
		both("MQTT-4.6.0-6 MQTT-4.6.0-5", "messages of one publisher on one topic come in order, at each QoS", func(s *stage) {
			for qos := range byte(3) {
				p, sub := s.connect(hello{}), s.connect(hello{})
				sub.subscribe(filter{s.topic("a"), int(qos)})
				var want []string
				for i := range 100 {
					m := message{topic: s.topic("a"), payload: fmt.Sprint(i), qos: qos}
					p.publish(m)
					want = append(want, m.payload)
				}
				sub.receives(want...)
			}
		}),
		both("MQTT-3.3.5-1 MQTT-3.3.4-2", "overlapping subscriptions get a message at the highest of their QoS", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("+"), 0}, filter{s.topic("a"), 2}, filter{s.topic("#"), 1})
			p.publish(message{topic: s.topic("a"), payload: "x", qos: 2})
			best := byte(0)
			for _, m := range sub.several() {
				best = max(best, m.qos)
			}
			s.check(best == 2, "the highest QoS was %d", best)
		}),
		five("MQTT-3.8.3-3", "no local keeps a client's own messages from it", func(s *stage) {
			p, other := s.connect(hello{}), s.connect(hello{})
			p.subscribe(filter{s.topic("a"), 1 | noLocal})
			p.publish(message{topic: s.topic("a"), payload: "own", qos: 1})
			other.publish(message{topic: s.topic("a"), payload: "other's", qos: 1})
			p.receives("other's")
		}),
		five("MQTT-3.8.3-3", "no local does not apply to a new client", func(s *stage) {
			p := s.connect(hello{})
			p.subscribe(filter{s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: "own", qos: 1})
			p.receives("own")
		}),
		five("MQTT-3.3.4-3", "a message carries the identifier of its subscription", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribeWith(cat(pSubscriptionID, varint(300)), filter{s.topic("a"), 1})
			sub.subscribe(filter{s.topic("b"), 1})
			p.publish(message{topic: s.topic("a"), payload: "1", qos: 1}, message{topic: s.topic("b"), payload: "2", qos: 1})
			got := sub.receives("1", "2")
			s.check(slices.Equal(values(got[0].props, pSubscriptionID), []string{string(varint(300))}), "identifiers % x, want 300", got[0].props)
			s.check(len(values(got[1].props, pSubscriptionID)) == 0, "an identifier that was not given")
		}),
		five("MQTT-3.3.4-4", "a message for several subscriptions carries the identifiers of all", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribeWith(cat(pSubscriptionID, 1), filter{s.topic("a"), 1})
			sub.subscribeWith(cat(pSubscriptionID, 2), filter{s.topic("+"), 1})
			p.publish(message{topic: s.topic("a"), payload: "x", qos: 1})
			var ids []string
			for _, m := range sub.several() {
				ids = append(ids, values(m.props, pSubscriptionID)...)
			}
			slices.Sort(ids)
			s.check(slices.Equal(ids, []string{"\x01", "\x02"}), "identifiers %q, want 1 and 2", ids)
		}),
		five("3.8.4", "a subscription made again has its new identifier", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribeWith(cat(pSubscriptionID, 1), filter{s.topic("a"), 1})
			sub.subscribeWith(cat(pSubscriptionID, 2), filter{s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: "x", qos: 1})
			ids := values(sub.receives("x")[0].props, pSubscriptionID)
			s.check(slices.Equal(ids, []string{"\x02"}), "identifiers %q, want 2", ids)
		}),
		five("MQTT-3.3.2-17", "user properties are passed on, in order", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: "x", qos: 1, props: cat(pUser, "b", "1", pUser, "a", "2", pUser, "b", "1", pUser, "", "")})
			got := values(sub.receives("x")[0].props, pUser)
			s.check(slices.Equal(got, []string{"b=1", "a=2", "b=1", "="}), "user properties %q", got)
		}),
		five("MQTT-3.3.2-20", "content type, format, response topic and correlation data are passed on", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: "x", qos: 1, props: cat(pFormat, 1, pContentType, "text/plain", pResponseTopic, "re/ply", pCorrelation, "\x00\xff\x01")})
			m := sub.receives("x")[0]
			for id, want := range map[byte]string{pFormat: "\x01", pContentType: "text/plain", pResponseTopic: "re/ply", pCorrelation: "\x00\xff\x01"} {
				s.check(slices.Equal(values(m.props, id), []string{want}), "property %#x is %q, want %q", id, values(m.props, id), want)
			}
		}),
		five("MQTT-3.3.2-6", "a message that has waited is passed on with what is left of its expiry", func(s *stage) {
			sub := s.connect(hello{id: "exp", keep: true, lasts: 60})
			sub.subscribe(filter{s.topic("a"), 1})
			sub.leave()
			began := time.Now()
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 1, props: cat(pMessageExpiry, uint32(100))})
			rest(2.1)
			sub, _ = s.session(hello{id: "exp", keep: true, lasts: 60})
			left := values(sub.receives("x")[0].props, pMessageExpiry)
			waited := int(time.Since(began).Seconds()) + 1 // at most
			s.check(len(left) == 1 && int(left[0][3]) >= 100-waited && left[0][3] <= 98, "expiry %q after at most %d s of 100", left, waited)
		}),
		five("MQTT-3.3.2-5", "a message that has expired is not delivered", func(s *stage) {
			sub := s.connect(hello{id: "exp", keep: true, lasts: 60})
			sub.subscribe(filter{s.topic("a"), 1})
			sub.leave()
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "expires", qos: 1, props: cat(pMessageExpiry, uint32(1))}, message{topic: s.topic("a"), payload: "stays", qos: 1})
			rest(2.5)
			sub, _ = s.session(hello{id: "exp", keep: true, lasts: 60})
			sub.receives("stays")
		}),
		five("MQTT-3.3.2-5", "a retained message that has expired is not delivered", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "expires", qos: 1, retain: true, props: cat(pMessageExpiry, uint32(1))})
			p.publish(message{topic: s.topic("b"), payload: "stays", qos: 1, retain: true})
			rest(2.5)
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("#"), 1})
			sub.receives("stays")
			p.publish(message{topic: s.topic("b"), retain: true})
		}),
		five("MQTT-3.1.2-24", "a message larger than the client takes is not sent to it", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{props: cat(pMaximumPacket, uint32(100))})
			sub.subscribe(filter{s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: strings.Repeat("large", 20), qos: 1}, message{topic: s.topic("a"), payload: "small", qos: 1})
			sub.receives("small") // [MQTT-3.1.2-25]
		}),
		five("MQTT-3.1.2-27", "no topic alias is sent to a client that takes none", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 0})
			for range 5 {
				p.publish(message{topic: s.topic("a"), payload: "x", qos: 1})
				m := sub.receives("x")[0]
				s.check(m.topic != "" && len(values(m.props, pTopicAlias)) == 0, "sent with a topic alias")
			}
		}),
		five("MQTT-3.1.2-26", "topic aliases stay within what the client takes, and are set before use", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{props: cat(pTopicAliasMax, uint16(2))})
			sub.subscribe(filter{s.topic("#"), 0})
			aliases := map[string]string{}
			for i := range 12 {
				topic := s.topic(fmt.Sprint(i % 4))
				p.publish(message{topic: topic, payload: topic, qos: 1})
				m := sub.receives(topic)[0]
				if alias := values(m.props, pTopicAlias); len(alias) > 0 {
					s.check(alias[0] == "\x00\x01" || alias[0] == "\x00\x02", "topic alias %q", alias)
					if m.topic != "" {
						aliases[alias[0]] = m.topic
					}
					m.topic = aliases[alias[0]]
				}
				s.check(m.topic == topic, "on %q, want %s", m.topic, topic)
			}
		}),
		five("MQTT-3.3.4-9", "no more messages are sent unacknowledged than the client's receive maximum", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{props: cat(pReceiveMaximum, uint16(2))})
			sub.subscribe(filter{s.topic("a"), 2})
			for i := range 6 {
				p.publish(message{topic: s.topic("a"), payload: fmt.Sprint(i), qos: byte(1 + i%2)})
			}
			sub.hold = true
			got := sub.receives("0", "1")
			rest(0.3)
			sub.nothing()
			sub.send(ack(PUBACK, got[0].id))
			sub.receives("2")
			sub.nothing()
			sub.send(ack(PUBREC, got[1].id)) // which does not make room
			sub.acked(PUBREL, got[1].id, 0)
			sub.nothing()
			sub.hold = false
			sub.send(ack(PUBCOMP, got[1].id))
			sub.receives("3")
		}),
		five("MQTT-3.3.4-9", "every message comes in its turn with a receive maximum of 1", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{props: cat(pReceiveMaximum, uint16(1))})
			sub.subscribe(filter{s.topic("a"), 2})
			var want []string
			for i := range 60 {
				m := message{topic: s.topic("a"), payload: fmt.Sprint(i), qos: byte(1 + i%2)}
				p.publish(m)
				want = append(want, m.payload)
			}
			sub.receives(want...)
		}),
		five("MQTT-3.3.4-7", "messages at QoS 0 do not wait for the receive maximum", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{props: cat(pReceiveMaximum, uint16(1))})
			sub.hold = true
			sub.subscribe(filter{s.topic("#"), 1})
			p.publish(message{topic: s.topic("a"), payload: "1", qos: 1}, message{topic: s.topic("b"), payload: "waits", qos: 1}, message{topic: s.topic("c"), payload: "passes"})
			sub.receives("1", "passes")
		}),
	)
}

// several returns the messages that have come when the server has answered a
// message of the client's own, at least one.
func (p *peer) several() (all []message) {
	all = append(all, p.next())
	end := p.s.topic("several")
	p.subscribe(filter{end, 0})
	p.publish(message{topic: end, payload: "end", qos: 1})
	for {
		m := p.next()
		if m.payload == "end" {
			return all
		}
		all = append(all, m)
	}
}

func retainPromises() []promise {
	return concat(
		both("MQTT-3.3.1-8", "a new subscription gets the retained message, marked as such", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "kept", qos: 1, retain: true})
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			m := sub.receives("kept")[0]
			s.check(m.retain && m.qos == 1, "retain %v, QoS %d", m.retain, m.qos)
		}),
		both("MQTT-3.3.1-9 MQTT-3.3.1-12", "a subscription that is there gets the message without the mark", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: "live", qos: 1, retain: true})
			s.check(!sub.receives("live")[0].retain, "marked as retained")
		}),
		five("MQTT-3.3.1-13", "retain as published keeps the mark", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1 | retainAsPublished})
			p.publish(message{topic: s.topic("a"), payload: "1", qos: 1, retain: true}, message{topic: s.topic("a"), payload: "2", qos: 1})
			got := sub.receives("1", "2")
			s.check(got[0].retain && !got[1].retain, "marks %v and %v, want true and false", got[0].retain, got[1].retain)
		}),
		both("MQTT-3.3.1-5", "a retained message is replaced by the next of its topic", func(s *stage) {
			p := s.connect(hello{})
			for i := range 3 {
				p.publish(message{topic: s.topic("a"), payload: fmt.Sprint(i), qos: 1, retain: true})
			}
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			sub.receives("2")
			sub.nothing()
		}),
		both("MQTT-3.3.1-7 MQTT-3.3.1-5", "a retained message at QoS 0 replaces one at QoS 1", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "old", qos: 1, retain: true}, message{topic: s.topic("a"), payload: "new", retain: true})
			p.publish(message{topic: s.topic("b"), payload: "settles", qos: 1})
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			for _, m := range sub.several() {
				s.check(m.payload == "new", "got %q", m.payload)
			}
		}),
		both("MQTT-3.3.1-10 MQTT-3.3.1-6", "an empty retained message removes the one of its topic, and is not kept", func(s *stage) {
			p, live := s.connect(hello{}), s.connect(hello{})
			live.subscribe(filter{s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: "kept", qos: 1, retain: true}, message{topic: s.topic("a"), qos: 1, retain: true})
			live.receives("kept", "") // [MQTT-3.3.1-11] of 3.1.1: as any other message
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: "live", qos: 1})
			sub.receives("live")
		}),
		both("MQTT-3.3.1-12 MQTT-3.3.1-8", "a message without the mark neither is kept nor replaces what is", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "kept", qos: 1, retain: true}, message{topic: s.topic("a"), payload: "live", qos: 1}, message{topic: s.topic("b"), payload: "live", qos: 1})
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("#"), 1})
			sub.receives("kept")
			sub.nothing()
		}),
		both("MQTT-3.8.4-3 MQTT-3.3.1-9", "each SUBSCRIBE gets the retained messages again", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "kept", qos: 1, retain: true})
			sub := s.connect(hello{})
			for range 3 {
				sub.subscribe(filter{s.topic("a"), 1})
				sub.receives("kept")
			}
		}),
		both("MQTT-3.3.1-6 MQTT-3.3.1-9", "a filter with wildcards gets all retained messages that match, that of the parent too", func(s *stage) {
			p := s.connect(hello{})
			var want []string
			for _, name := range []string{"a", "a/b", "a/b/c", "ab"} {
				p.publish(message{topic: s.topic(name), payload: name, qos: 1, retain: true})
				if name != "ab" {
					want = append(want, name)
				}
			}
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("a/#"), 1})
			var got []string
			for _, m := range sub.several() {
				got = append(got, m.payload)
			}
			slices.Sort(got)
			s.check(slices.Equal(got, want), "got %q, want %q", got, want)
		}),
		five("MQTT-3.3.1-10", "retain handling 1 sends retained messages to new subscriptions only", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "kept", qos: 1, retain: true})
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1 | onlyIfNew})
			sub.receives("kept")
			sub.subscribe(filter{s.topic("a"), 1 | onlyIfNew})
			p.publish(message{topic: s.topic("a"), payload: "live", qos: 1})
			sub.receives("live")
		}),
		five("MQTT-3.3.1-11", "retain handling 2 sends no retained messages", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "kept", qos: 1, retain: true})
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1 | neverRetained})
			p.publish(message{topic: s.topic("a"), payload: "live", qos: 1})
			sub.receives("live")
		}),
		five("MQTT-3.3.2-17", "a retained message keeps its properties", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "x", qos: 1, retain: true, props: cat(pUser, "k", "v", pContentType, "text/plain", pFormat, 1)})
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			m := sub.receives("x")[0]
			s.check(slices.Equal(values(m.props, pUser), []string{"k=v"}) && slices.Equal(values(m.props, pContentType), []string{"text/plain"}), "properties % x", m.props)
		}),
		five("MQTT-3.3.4-3", "a retained message carries the identifier of the subscription", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "x", qos: 1, retain: true})
			sub := s.connect(hello{})
			sub.subscribeWith(cat(pSubscriptionID, 5), filter{s.topic("a"), 1})
			s.check(slices.Equal(values(sub.receives("x")[0].props, pSubscriptionID), []string{"\x05"}), "no identifier")
		}),
	)
}

func sharedPromises() []promise {
	// spread publishes n messages and returns who of the members got which.
	spread := func(s *stage, topic string, n int, members ...*peer) (got [][]string) {
		p := s.connect(hello{})
		for i := range n {
			p.publish(message{topic: topic, payload: fmt.Sprint(i), qos: 1})
		}
		for _, m := range members {
			end := m.id + "/end"
			m.subscribe(filter{end, 1})
			p.publish(message{topic: end, payload: "end", qos: 1})
			var mine []string
			for {
				msg := m.next()
				if msg.payload == "end" {
					break
				}
				mine = append(mine, msg.payload)
			}
			got = append(got, mine)
		}
		return got
	}
	return concat(
		five("4.8.2", "each message goes to one member of a shared subscription", func(s *stage) {
			a, b := s.connect(hello{}), s.connect(hello{})
			a.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			b.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			got := spread(s, s.topic("a"), 40, a, b)
			both := slices.Concat(got...)
			s.check(len(both) == 40, "%d messages arrived, want 40", len(both))
			slices.Sort(both)
			s.check(len(slices.Compact(both)) == 40, "some arrived twice")
			s.check(len(got[0]) > 0 && len(got[1]) > 0, "one member got all")
		}),
		five("4.8.2", "share names are separate, and so are ordinary subscriptions", func(s *stage) {
			a, b, c := s.connect(hello{}), s.connect(hello{}), s.connect(hello{})
			a.subscribe(filter{"$share/g/" + s.topic("+"), 1})
			b.subscribe(filter{"$share/h/" + s.topic("+"), 1})
			c.subscribe(filter{s.topic("+"), 1})
			for i, got := range spread(s, s.topic("a"), 10, a, b, c) {
				s.check(len(got) == 10, "subscriber %d got %d messages, want 10", i, len(got))
			}
		}),
		five("MQTT-4.8.2-3", "a member gets messages at its own QoS", func(s *stage) {
			a := s.connect(hello{})
			a.subscribe(filter{"$share/g/" + s.topic("a"), 0})
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 2})
			s.check(a.receives("x")[0].qos == 0, "not at QoS 0")
		}),
		five("3.8.4", "a shared subscription gets no retained messages", func(s *stage) {
			p, a := s.connect(hello{}), s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "kept", qos: 1, retain: true})
			a.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: "live", qos: 1})
			a.receives("live")
		}),
		five("3.10.4", "a member that unsubscribes gets no more, the others get all", func(s *stage) {
			a, b := s.connect(hello{}), s.connect(hello{})
			a.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			b.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			a.send(unsubscribe(v5, 9, "$share/g/"+s.topic("a")))
			s.check(string(a.codes(UNSUBACK, 9)) == "\x00", "no such subscription")
			got := spread(s, s.topic("a"), 10, a, b)
			s.check(len(got[0]) == 0 && len(got[1]) == 10, "got %d and %d, want 0 and 10", len(got[0]), len(got[1]))
		}),
		five("4.8.2", "members that are connected are preferred to those that are away", func(s *stage) {
			away, a := s.connect(hello{keep: true, lasts: 60}), s.connect(hello{})
			away.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			a.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			away.leave()
			got := spread(s, s.topic("a"), 20, a)
			s.check(len(got[0]) == 20, "%d of 20 arrived", len(got[0]))
		}),
		five("4.8.2", "a shared subscription waits for a member when all are away", func(s *stage) {
			away := s.connect(hello{id: "w", keep: true, lasts: 60})
			away.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			away.leave()
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 1})
			back, _ := s.session(hello{id: "w", keep: true, lasts: 60})
			back.receives("x")
		}),
		five("MQTT-4.8.2-4", "a message at QoS 2 that a member has is completed with that member", func(s *stage) {
			a := s.connect(hello{id: "a", keep: true, lasts: 60})
			a.hold = true
			a.subscribe(filter{"$share/g/" + s.topic("a"), 2})
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 2})
			a.receives("x")
			b := s.connect(hello{})
			b.subscribe(filter{"$share/g/" + s.topic("a"), 2})
			a.vanish()
			a, _ = s.session(hello{id: "a", keep: true, lasts: 60})
			a.receives("x")
			b.nothing()
		}),
		five("MQTT-4.8.2-6", "a message that a member refuses is not given to another", func(s *stage) {
			a := s.connect(hello{})
			a.hold = true
			a.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 1})
			b := s.connect(hello{})
			b.subscribe(filter{"$share/g/" + s.topic("a"), 1})
			a.send(packet(PUBACK, a.next().id, 0x83))
			rest(0.3)
			a.nothing()
			b.nothing()
		}),
	)
}
