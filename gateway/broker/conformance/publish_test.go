package conformance

import "strings"

func publishPromises() []promise {
	sends := func(m message) func(v version) []byte {
		return func(v version) []byte { return m.packet(v) }
	}
	props := func(parts ...any) func(v version) []byte {
		return sends(message{topic: "a", props: cat(parts...)})
	}
	badText := func(clauses, name, text string) []promise {
		return concat(
			breach(clauses, "a topic with "+name+" ends the connection", sends(message{topic: "a/" + text}), malformed, protocolError, badTopic),
			breach(clauses, "a topic filter with "+name+" ends the connection", func(v version) []byte {
				return subscribe(v, 1, nil, filter{"a/" + text, 0})
			}, malformed, protocolError, badFilter),
		)
	}
	goodText := func(clause, name, text string) []promise {
		return both(clause, name, func(s *stage) {
			p := s.connect(hello{})
			p.subscribe(filter{s.topic(text), 0})
			p.publish(message{topic: s.topic(text), payload: "x", qos: 1})
			s.check(p.receives("x")[0].topic == s.topic(text), "the topic was changed")
		})
	}
	return concat(
		breach("MQTT-3.3.1-4", "PUBLISH with QoS 3 ends the connection", sends(message{topic: "a", qos: 3, id: 1}), malformed, protocolError),
		breach("MQTT-3.3.1-2", "PUBLISH with DUP at QoS 0 ends the connection", sends(message{topic: "a", dup: true}), malformed, protocolError),
		breach("MQTT-2.3.1-1 MQTT-2.2.1-3", "PUBLISH with packet identifier 0 ends the connection", sends(message{topic: "a", qos: 1}), protocolError, malformed),
		breach("MQTT-2.3.1-1 MQTT-2.2.1-3", "PUBLISH at QoS 2 with packet identifier 0 ends the connection", sends(message{topic: "a", qos: 2}), protocolError, malformed),
		breach("MQTT-3.3.2-2", "a topic with + ends the connection", sends(message{topic: "a/+"}), badTopic, malformed, protocolError),
		breach("MQTT-3.3.2-2", "a topic with # ends the connection", sends(message{topic: "#", qos: 1, id: 1}), badTopic, malformed, protocolError),
		breach("MQTT-4.7.3-1 3.3.2.1", "an empty topic ends the connection", sends(message{}), protocolError, badTopic, malformed),
		breach("3.3.2", "PUBLISH without a topic field ends the connection", literal("3000"), malformed, protocolError),
		breach("3.3.2", "PUBLISH that ends in its topic ends the connection", literal("300300056100"), malformed, protocolError),
		breach("3.3.2", "PUBLISH that ends in its packet identifier ends the connection", literal("320400016100"), malformed, protocolError),
		badText("MQTT-1.5.3-1 MQTT-1.5.4-1", "a surrogate", "\xed\xa0\x80"),
		badText("MQTT-1.5.3-1 MQTT-1.5.4-1", "an overlong encoding", "\xc0\xaf"),
		badText("MQTT-1.5.3-1 MQTT-1.5.4-1", "a code point beyond U+10FFFF", "\xf5\x80\x80\x80"),
		badText("MQTT-1.5.3-2 MQTT-1.5.4-2", "a null character", "\x00"),
		goodText("MQTT-1.5.3-3 MQTT-1.5.4-3", "U+FEFF in a topic is kept", "\ufeffmark"),
		goodText("MQTT-4.7.3-4", "topics of other alphabets and with spaces are kept", "Kühlhaus 冷蔵庫/🌡"),
		goodText("4.7.1.1", "topics may begin and end with a slash", "/a//b/"),
		both("MQTT-4.7.3-4", "topics are told apart by case and by how characters are composed", func(s *stage) {
			p := s.connect(hello{})
			p.subscribe(filter{s.topic("\u00e9"), 0})
			for _, name := range []string{"e\u0301", "\u00c9", "\u00e9"} {
				p.publish(message{topic: s.topic(name), payload: name, qos: 1})
			}
			p.receives("\u00e9")
		}),
		both("4.7.3", "a topic of 128 levels is taken, one of 65,535 bytes does no harm", func(s *stage) {
			p := s.connect(hello{})
			p.publish(message{topic: s.prefix + strings.Repeat("/", 100), payload: "x", qos: 1})
			s.connect(hello{}).offer(message{topic: strings.Repeat("/", 65535), qos: 1, id: 1, retain: true}.packet(s.v))
			p.alive()
		}),

		five("3.3.2.3", "PUBLISH without a property length ends the connection", breaks(literal("3003000161"), malformed)),
		five("2.2.2.1", "properties that are longer than the packet end the connection", breaks(literal("300400016109"), malformed)),
		five("MQTT-1.5.5-1", "a property length of more bytes than it takes ends the connection", breaks(literal("30050001618000"), malformed)),
		five("2.2.2.2", "an unknown property ends the connection", breaks(props(unknownProperty, 1), malformed, protocolError)),
		five("2.2.2.2", "an unknown property of two bytes ends the connection", breaks(props(0x81, 1, 1), malformed, protocolError)),
		five("2.2.2.2", "a property of CONNECT ends the connection", breaks(props(pSessionExpiry, uint32(1)), malformed, protocolError)),
		five("2.2.2.2", "a property that is cut short ends the connection", breaks(props(pMessageExpiry, 0), malformed, protocolError)),
		five("2.2.2.2", "a text property that is cut short ends the connection", breaks(props(pContentType, 0, 9, 'a'), malformed, protocolError)),
		five("MQTT-3.3.4-6", "a subscription identifier from a client ends the connection", breaks(props(pSubscriptionID, 1), protocolError, malformed)),
		five("3.3.2.3.2", "a payload format given twice ends the connection", breaks(props(pFormat, 1, pFormat, 1), protocolError)),
		five("3.3.2.3.2", "payload format 2 ends the connection", breaks(props(pFormat, 2), protocolError, malformed)),
		five("3.3.2.3.3", "a message expiry given twice ends the connection", breaks(props(pMessageExpiry, uint32(1), pMessageExpiry, uint32(1)), protocolError)),
		five("3.3.2.3.4", "a topic alias given twice ends the connection", breaks(props(pTopicAlias, uint16(1), pTopicAlias, uint16(1)), protocolError)),
		five("3.3.2.3.5", "a response topic given twice ends the connection", breaks(props(pResponseTopic, "r", pResponseTopic, "r"), protocolError)),
		five("3.3.2.3.6", "correlation data given twice ends the connection", breaks(props(pCorrelation, "r", pCorrelation, "r"), protocolError)),
		five("3.3.2.3.9", "a content type given twice ends the connection", breaks(props(pContentType, "r", pContentType, "r"), protocolError)),
		five("MQTT-3.3.2-13", "a response topic that is not UTF-8 ends the connection", breaks(props(pResponseTopic, "\xff"), malformed, protocolError, badTopic)),
		five("MQTT-3.3.2-14", "a response topic with a wildcard ends the connection", breaks(props(pResponseTopic, "a/#"), malformed, protocolError, badTopic)),
		five("MQTT-3.3.2-19", "a content type that is not UTF-8 ends the connection", breaks(props(pContentType, "\xff"), malformed, protocolError)),
		five("MQTT-1.5.4-1", "a user property whose name is not UTF-8 ends the connection", breaks(props(pUser, "\xff", "x"), malformed, protocolError)),
		five("MQTT-1.5.4-1", "a user property whose value is not UTF-8 ends the connection", breaks(props(pUser, "x", "\xc0\x80"), malformed, protocolError)),
		five("MQTT-1.5.7-1", "a user property without a value ends the connection", breaks(props(pUser, "x"), malformed, protocolError)),

		five("MQTT-3.3.2-8", "topic alias 0 ends the connection", breaks(props(pTopicAlias, uint16(0)), badAlias)),
		five("MQTT-3.3.2-9", "a topic alias above the maximum ends the connection", func(s *stage) {
			p := s.connect(hello{})
			most, _ := p.announced(pTopicAliasMax)
			p.offer(message{topic: "a", props: cat(pTopicAlias, uint16(most+1))}.packet(v5))
			p.closed(badAlias)
		}),
		five("3.3.2.3.4", "a topic alias that was not set ends the connection", breaks(sends(message{props: cat(pTopicAlias, uint16(1))}), protocolError, badAlias)),
		five("3.3.2.3.4", "a topic alias stands for its topic, and can be set anew", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("#"), 1})
			alias := cat(pTopicAlias, uint16(1))
			p.publish(message{topic: s.topic("a"), payload: "1", qos: 1, props: alias})
			p.publish(message{payload: "2", qos: 1, props: alias})
			p.publish(message{topic: s.topic("b"), payload: "3", qos: 1, props: alias})
			p.publish(message{payload: "4", qos: 1, props: alias})
			for i, m := range sub.receives("1", "2", "3", "4") {
				want := s.topic(string("aabb"[i]))
				s.check(m.topic == want, "message %d is on %q, want %s", i, m.topic, want)
				s.check(len(values(m.props, pTopicAlias)) == 0, "the alias was forwarded") // [MQTT-3.1.2-27]
			}
		}),
		five("MQTT-3.3.2-7", "topic aliases end with the connection", func(s *stage) {
			p := s.connect(hello{keep: true, lasts: 60})
			p.publish(message{topic: s.topic("a"), qos: 1, props: cat(pTopicAlias, uint16(1))})
			p.leave()
			p, _ = s.again(p, hello{})
			p.offer(message{qos: 1, id: 1, props: cat(pTopicAlias, uint16(1))}.packet(v5))
			p.closed(protocolError, badAlias)
		}),
		five("MQTT-3.3.4-9", "more messages at QoS 2 than the receive maximum end the connection", func(s *stage) {
			p := s.connect(hello{})
			most, ok := p.announced(pReceiveMaximum)
			s.check(ok, "no Receive Maximum announced")
			var b []byte
			for i := range most + 1 {
				b = append(b, message{topic: s.topic("a"), qos: 2, id: uint16(i + 1)}.packet(v5)...)
			}
			p.offer(b)
			p.closed(receiveMaximum)
		}),
		five("MQTT-3.3.4-9", "a refused message does not count against the receive maximum", func(s *stage) {
			p := s.connect(hello{})
			most, _ := p.announced(pReceiveMaximum)
			s.check(most > 0 && most < 20_000, "receive maximum %d cannot be tried", most)
			for i := range most + 10 {
				p.send(message{topic: "$SYS/mine", qos: 2, id: uint16(i + 1)}.packet(v5))
			}
			for i := range most + 10 {
				r := p.want(PUBREC)
				s.check(len(r.body) > 2 && r.body[2] >= 0x80, "message %d to $SYS was taken", i)
			}
			p.alive()
		}),
		five("3.4.2.1", "a message to a topic with $ is refused with a reason, at QoS 1 and 2", func(s *stage) {
			p := s.connect(hello{})
			for _, topic := range []string{"$SYS/broker/version", "$mine"} {
				p.send(message{topic: topic, payload: "x", qos: 1, id: 1}.packet(v5))
				r := p.want(PUBACK)
				s.check(len(r.body) > 2 && (r.body[2] == badTopic || r.body[2] == notAuthorized), "%s: got %s", topic, r)
				p.send(message{topic: topic, payload: "x", qos: 2, id: 2}.packet(v5))
				r = p.want(PUBREC)
				s.check(len(r.body) > 2 && (r.body[2] == badTopic || r.body[2] == notAuthorized), "%s: got %s", topic, r)
			}
			p.alive()
		}),
		three("MQTT-3.3.5-2", "a message to a topic with $ is acknowledged or ends the connection, and is not delivered", func(s *stage) {
			sub, p := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{"$" + s.prefix + "/#", 0})
			p.offer(message{topic: "$SYS/" + s.prefix, payload: "x", qos: 1, id: 1}.packet(v4))
			r, err := p.read()
			if err != nil {
				p.ended(err)
			} else {
				s.check(r.first == PUBACK, "got %s", r)
			}
			sub.nothing()
		}),
	)
}
