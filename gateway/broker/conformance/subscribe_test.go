package conformance

import (
	"fmt"
	"strings"
)

func subscribePromises() []promise {
	asks := func(name string, options int) func(v version) []byte {
		return func(v version) []byte { return subscribe(v, 1, nil, filter{name, options}) }
	}
	badFilters := func(clauses, name string, filters ...string) (all []promise) {
		for _, f := range filters {
			all = append(all, both(clauses, fmt.Sprintf("%s is refused: %q", name, f), func(s *stage) {
				p := s.connect(hello{})
				p.offer(subscribe(s.v, 1, nil, filter{f, 0}))
				p.closed(badFilter, malformed, protocolError)
			})...)
		}
		return all
	}
	// matches is a filter below the dialogue's prefix, and which topics it is to
	// match.
	matches := func(clause, f, yes, no string) []promise {
		name := fmt.Sprintf("%q matches %s and not %s", f, yes, no)
		return both(clause, name, func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{strings.Replace(f, "~", s.prefix, 1), 0})
			for _, topic := range strings.Fields(no + " " + yes) {
				p.publish(message{topic: strings.Replace(topic, "~", s.prefix, 1), payload: topic, qos: 1})
			}
			sub.receives(strings.Fields(yes)...)
		})
	}
	return concat(
		breach("MQTT-2.3.1-1 MQTT-2.2.1-3", "SUBSCRIBE with packet identifier 0 ends the connection", func(v version) []byte {
			return subscribe(v, 0, nil, filter{"a", 0})
		}, protocolError, malformed),
		breach("MQTT-3.8.3-3 MQTT-3.8.3-2", "SUBSCRIBE without a topic filter ends the connection", func(v version) []byte { return subscribe(v, 1, nil) }, protocolError, malformed),
		breach("3.8.3", "SUBSCRIBE without options ends the connection", func(v version) []byte {
			return packet(SUBSCRIBE, uint16(1), v.properties(nil), "a")
		}, malformed, protocolError),
		breach("3.8.3", "SUBSCRIBE whose second filter lacks its options ends the connection", func(v version) []byte {
			return packet(SUBSCRIBE, uint16(1), v.properties(nil), "a", 0, "b")
		}, malformed, protocolError),
		breach("3.8.3", "SUBSCRIBE that ends in its filter ends the connection", func(v version) []byte {
			return packet(SUBSCRIBE, uint16(1), v.properties(nil), 0, 9, 'a')
		}, malformed, protocolError),
		breach("3.8.2", "SUBSCRIBE that ends in its packet identifier ends the connection", literal("820100"), malformed, protocolError),
		breach("MQTT-3.8.3-4 3.8.3.1", "a subscription with QoS 3 ends the connection", asks("a", 3), malformed, protocolError),
		breach("MQTT-3.8.3-4 MQTT-3.8.3-5", "a subscription with reserved options ends the connection", asks("a", 0xC0), malformed, protocolError),
		three("MQTT-3.8.3-4", "a subscription with options of MQTT 5 ends the connection", breaks(asks("a", noLocal))),
		five("3.8.3.1", "a subscription with retain handling 3 ends the connection", breaks(asks("a", 0x30), protocolError, malformed)),
		five("MQTT-3.8.3-4", "a shared subscription with no local ends the connection", breaks(asks("$share/g/a", noLocal), protocolError, malformed)),
		five("3.8.2.1.2", "subscription identifier 0 ends the connection", breaks(func(v version) []byte {
			return subscribe(v, 1, cat(pSubscriptionID, 0), filter{"a", 0})
		}, protocolError, malformed)),
		five("3.8.2.1.2", "a subscription identifier given twice ends the connection", breaks(func(v version) []byte {
			return subscribe(v, 1, cat(pSubscriptionID, 1, pSubscriptionID, 2), filter{"a", 0})
		}, protocolError)),
		five("3.8.2.1", "SUBSCRIBE with a property of another packet ends the connection", breaks(func(v version) []byte {
			return subscribe(v, 1, cat(pReason, "why"), filter{"a", 0})
		}, malformed, protocolError)),
		five("MQTT-1.5.5-1", "a subscription identifier of more bytes than it takes ends the connection", breaks(func(v version) []byte {
			return subscribe(v, 1, cat(pSubscriptionID, 0x81, 0), filter{"a", 0})
		}, malformed, protocolError)),
		badFilters("MQTT-4.7.1-2 MQTT-4.7.1-1", "a filter with # not alone at its end", "a#", "a/#/b", "#/", "a/##"),
		badFilters("MQTT-4.7.1-3 MQTT-4.7.1-2", "a filter with + not alone in its level", "a+", "a/+b/c", "++"),
		badFilters("MQTT-4.7.3-1", "an empty filter", ""),
		five("MQTT-4.8.2-1", "a shared subscription without a share name is refused", breaks(asks("$share//a", 0), badFilter, malformed, protocolError)),
		five("MQTT-4.8.2-2", "a share name with a wildcard is refused", breaks(asks("$share/g+/a", 0), badFilter, malformed, protocolError)),
		five("MQTT-4.8.2-2", "a shared subscription without a filter is refused", breaks(asks("$share/g", 0), badFilter, malformed, protocolError)),
		five("MQTT-4.8.2-2", "a shared subscription with an empty filter is refused", breaks(asks("$share/g/", 0), badFilter, malformed, protocolError)),
		breach("MQTT-3.10.3-2", "UNSUBSCRIBE without a topic filter ends the connection", func(v version) []byte { return unsubscribe(v, 1) }, protocolError, malformed),
		breach("MQTT-2.3.1-1 MQTT-2.2.1-3", "UNSUBSCRIBE with packet identifier 0 ends the connection", func(v version) []byte { return unsubscribe(v, 0, "a") }, protocolError, malformed),
		breach("MQTT-3.10.3-1", "UNSUBSCRIBE from a filter that is not UTF-8 ends the connection", func(v version) []byte {
			return unsubscribe(v, 1, "\xff")
		}, malformed, protocolError, badFilter),
		breach("3.10.3", "UNSUBSCRIBE that ends in its filter ends the connection", func(v version) []byte {
			return packet(UNSUBSCRIBE, uint16(1), v.properties(nil), 0, 9, 'a')
		}, malformed, protocolError),
		five("3.10.2.1", "UNSUBSCRIBE with a property of another packet ends the connection", breaks(func(version) []byte {
			return packet(UNSUBSCRIBE, uint16(1), 2, pSubscriptionID, 1, "a")
		}, malformed, protocolError)),

		matches("4.7.1.2", "~/a/#", "~/a ~/a/b ~/a/b/c ~/a/", "~/b ~/ab"),
		matches("4.7.1.3", "~/+", "~/a ~/", "~ ~/a/b"),
		matches("4.7.1.3", "~/+/b/+", "~/a/b/c ~//b/", "~/a/b ~/a/c/c"),
		matches("4.7.1.3", "~/+/#", "~/a ~/a/b ~/", "~"),
		matches("4.7.3", "~//b", "~//b", "~/b ~/a/b"),
		both("4.7.1.3", "a filter that begins with a slash matches such topics only", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{"/" + s.prefix + "/a", 0})
			p.publish(message{topic: s.topic("a"), payload: "without", qos: 1}, message{topic: "/" + s.topic("a"), payload: "with", qos: 1})
			sub.receives("with")
		}),
		both("MQTT-4.7.2-1", "wildcards at the first level do not match topics with $", func(s *stage) {
			p := s.connect(hello{})
			for _, f := range []string{"+/broker/version", "+/broker/+", "+/broker/#"} {
				p.subscribe(filter{f, 0})
			}
			p.nothing()
		}),
		both("4.7.2", "$SYS topics can be subscribed to", func(s *stage) {
			p := s.connect(hello{})
			p.subscribe(filter{"$SYS/broker/version", 0})
			m := p.next()
			s.check(m.retain && m.payload != "", "got %+v, want a retained version", m)
		}),

		both("MQTT-3.8.4-1 MQTT-3.8.4-2", "SUBACK has the packet identifier of its SUBSCRIBE", func(s *stage) {
			p := s.connect(hello{})
			for _, id := range []uint16{1, 65535, 1, 300} {
				p.send(subscribe(s.v, id, nil, filter{s.topic("a"), 0}))
				p.suback(id)
			}
		}),
		both("MQTT-3.8.4-5 MQTT-3.9.3-1", "SUBACK has a code for each filter, in their order", func(s *stage) {
			p := s.connect(hello{})
			p.send(subscribe(s.v, 7, nil, filter{s.topic("a"), 2}, filter{s.topic("b"), 0}, filter{s.topic("c"), 1}, filter{s.topic("d"), 2}))
			s.check(string(p.suback(7)) == "\x02\x00\x01\x02", "the codes are not those asked for")
		}),
		both("MQTT-3.8.4-3", "the same filter again replaces the subscription", func(s *stage) {
			p := s.connect(hello{})
			p.subscribe(filter{s.topic("a"), 2})
			p.subscribe(filter{s.topic("a"), 0})
			p.publish(message{topic: s.topic("a"), payload: "1", qos: 1}, message{topic: s.topic("a"), payload: "2", qos: 1})
			for _, m := range p.receives("1", "2") {
				s.check(m.qos == 0, "delivered at QoS %d, want 0", m.qos)
			}
		}),
		both("MQTT-3.10.4-4 MQTT-3.11.2-1", "UNSUBACK has the packet identifier of its UNSUBSCRIBE", func(s *stage) {
			p := s.connect(hello{})
			p.send(unsubscribe(s.v, 4711, s.topic("never")))
			p.codes(UNSUBACK, 4711)
		}),
		five("MQTT-3.11.3-2", "UNSUBACK says for each filter whether there was a subscription", func(s *stage) {
			p := s.connect(hello{})
			p.subscribe(filter{s.topic("a"), 0}, filter{s.topic("b"), 0})
			p.send(unsubscribe(s.v, 9, s.topic("a"), s.topic("never"), s.topic("b")))
			s.check(string(p.codes(UNSUBACK, 9)) == "\x00\x11\x00", "the codes are not success, no subscription, success")
		}),
		both("MQTT-3.10.4-2 MQTT-3.10.4-2", "nothing new is delivered after UNSUBACK", func(s *stage) {
			p := s.connect(hello{})
			p.subscribe(filter{s.topic("a"), 0}, filter{s.topic("b"), 0})
			p.send(unsubscribe(s.v, 9, s.topic("a")))
			p.want(UNSUBACK)
			p.publish(message{topic: s.topic("a"), payload: "a", qos: 1}, message{topic: s.topic("b"), payload: "b", qos: 1})
			p.receives("b")
		}),
		both("MQTT-3.10.4-1", "filters are compared letter by letter in UNSUBSCRIBE", func(s *stage) {
			p := s.connect(hello{})
			p.subscribe(filter{s.topic("a/b"), 0})
			p.send(unsubscribe(s.v, 9, s.topic("a/+"), s.topic("#"), s.topic("A/b")))
			p.want(UNSUBACK)
			p.publish(message{topic: s.topic("a/b"), payload: "still", qos: 1})
			p.receives("still")
		}),
		both("2.3.1 2.2.1", "SUBSCRIBE may have the packet identifier of a message that is not acknowledged", func(s *stage) {
			p := s.connect(hello{})
			p.hold = true
			p.subscribe(filter{s.topic("a"), 1})
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 1})
			m := p.next()
			p.send(subscribe(s.v, m.id, nil, filter{s.topic("b"), 1}))
			s.check(string(p.suback(m.id)) == "\x01", "not granted")
		}),
		both("2.3.1 2.2.1", "a client's message may have the packet identifier of one from the server", func(s *stage) {
			id := "ids"
			p := s.connect(hello{id: id, keep: true, lasts: 60})
			p.hold = true
			p.subscribe(filter{s.topic("a"), 1})
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "from the server", qos: 1})
			m := p.next()
			p.send(message{topic: s.topic("b"), qos: 1, id: m.id}.packet(s.v))
			p.acked(PUBACK, m.id, 0)
			p.vanish()
			p, _ = s.session(hello{id: id, keep: true, lasts: 60})
			s.check(p.receives("from the server")[0].id == m.id, "redelivered with another packet identifier") // [MQTT-4.4.0-1]
		}),
		both("3.8.3", "a SUBSCRIBE with 500 filters is granted", func(s *stage) {
			p := s.connect(hello{})
			var filters []filter
			for i := range 500 {
				filters = append(filters, filter{s.topic(fmt.Sprint(i)), 1})
			}
			p.subscribe(filters...)
		}),
	)
}
