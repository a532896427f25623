package conformance

func ackPromises() (all []promise) {
	for _, k := range []struct {
		name, clause string
		first        int
	}{
		{"PUBACK", "MQTT-3.4.2-1", PUBACK}, {"PUBREC", "MQTT-3.5.2-1", PUBREC},
		{"PUBREL", "MQTT-3.6.2-1", PUBREL}, {"PUBCOMP", "MQTT-3.7.2-1", PUBCOMP},
	} {
		all = concat(all,
			breach("2.3.1 2.2.1", k.name+" with packet identifier 0 ends the connection", func(version) []byte { return ack(k.first, 0) }, protocolError, malformed),
			breach("2.3.1 2.2.1", k.name+" that ends in its packet identifier ends the connection", func(version) []byte { return packet(k.first, 1) }, malformed, protocolError),
			three("3.4.1", k.name+" with more than a packet identifier ends the connection", breaks(func(version) []byte { return packet(k.first, uint16(1), 0) })),
			five(k.clause, k.name+" with a reason that does not exist ends the connection", breaks(func(version) []byte { return packet(k.first, uint16(1), 0x7F) }, protocolError, malformed)),
			five("2.2.2.2", k.name+" with a property of another packet ends the connection", breaks(func(version) []byte {
				return packet(k.first, uint16(1), 0, 2, pFormat, 1)
			}, malformed, protocolError)),
			five("3.4.2.2.2", k.name+" with a reason string given twice ends the connection", breaks(func(version) []byte {
				props := cat(pReason, "a", pReason, "b")
				return packet(k.first, uint16(1), 0, varint(len(props)), props)
			}, protocolError)),
			five("2.2.2.1", k.name+" with bytes behind its properties ends the connection", breaks(func(version) []byte { return packet(k.first, uint16(1), 0, 0, 1) }, malformed, protocolError)),
		)
	}
	return concat(all,
		both("4.3.2", "PUBACK for a message that was never sent does no harm", func(s *stage) {
			p := s.connect(hello{})
			for id := range uint16(50) {
				p.send(ack(PUBACK, id+1))
			}
			p.nothing()
		}),
		both("4.3.3", "PUBREC and PUBCOMP for a message that was never sent do no harm", func(s *stage) {
			p := s.connect(hello{})
			p.send(cat(ack(PUBREC, 9), ack(PUBCOMP, 9)))
			if s.v == v5 {
				p.acked(PUBREL, 9, unknownID)
			}
			p.alive()
		}),
		both("MQTT-3.6.4-1 MQTT-4.3.3-11", "PUBREL for a message that was never sent is answered by PUBCOMP", func(s *stage) {
			p := s.connect(hello{})
			p.send(ack(PUBREL, 77))
			p.acked(PUBCOMP, 77, unknownID)
			p.alive()
		}),
		both("4.3.3", "PUBACK does not settle a message at QoS 2", func(s *stage) {
			p := s.connect(hello{id: "order", keep: true, lasts: 60})
			p.hold = true
			p.subscribe(filter{s.topic("a"), 2})
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 2})
			m := p.next()
			p.offer(ack(PUBACK, m.id))
			p.offer(packet(PINGREQ))
			_, _ = p.read() // an answer, or the end
			p.vanish()
			p, _ = s.session(hello{id: "order", keep: true, lasts: 60})
			p.receives("x")
		}),
		both("4.3.3", "PUBCOMP before PUBREC does not settle a message at QoS 2", func(s *stage) {
			p := s.connect(hello{id: "order2", keep: true, lasts: 60})
			p.hold = true
			p.subscribe(filter{s.topic("a"), 2})
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 2})
			m := p.next()
			p.offer(ack(PUBCOMP, m.id))
			p.offer(packet(PINGREQ))
			_, _ = p.read()
			p.vanish()
			p, _ = s.session(hello{id: "order2", keep: true, lasts: 60})
			p.receives("x")
		}),
	)
}

func qosPromises() []promise {
	return concat(
		both("MQTT-4.6.0-2", "PUBACKs come in the order of their messages", func(s *stage) {
			p := s.connect(hello{})
			var b []byte
			for id := range uint16(100) {
				b = append(b, message{topic: s.topic("a"), qos: 1, id: 1000 - id}.packet(s.v)...)
			}
			p.send(b)
			for id := range uint16(100) {
				p.acked(PUBACK, 1000-id, 0)
			}
		}),
		both("MQTT-4.6.0-3", "PUBRECs come in the order of their messages", func(s *stage) {
			p := s.connect(hello{})
			var b []byte
			for id := range uint16(10) {
				b = append(b, message{topic: s.topic("a"), qos: 2, id: 100 - id}.packet(s.v)...)
			}
			p.send(b)
			for id := range uint16(10) {
				p.acked(PUBREC, 100-id, 0)
			}
		}),
		both("MQTT-4.3.3-2 MQTT-4.3.3-10", "a message at QoS 2 that is repeated before PUBREL is delivered once", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("#"), 2})
			m := message{topic: s.topic("a"), payload: "once", qos: 2, id: 5}
			p.send(m.packet(s.v))
			p.acked(PUBREC, 5, 0)
			m.dup = true
			p.send(m.packet(s.v))
			p.acked(PUBREC, 5, 0)
			p.send(ack(PUBREL, 5))
			p.acked(PUBCOMP, 5, 0)
			p.publish(message{topic: s.topic("b"), payload: "next", qos: 2, id: 6})
			sub.receives("once", "next")
		}),
		both("MQTT-4.3.3-2 MQTT-4.3.3-10", "a message at QoS 2 that is repeated after a reconnect is delivered once", func(s *stage) {
			p, sub := s.connect(hello{id: "p", keep: true, lasts: 60}), s.connect(hello{})
			sub.subscribe(filter{s.topic("#"), 2})
			m := message{topic: s.topic("a"), payload: "once", qos: 2, id: 5}
			p.send(m.packet(s.v))
			p.acked(PUBREC, 5, 0)
			p.vanish()
			p, present := s.session(hello{id: "p", keep: true, lasts: 60})
			s.check(present, "the session is gone")
			m.dup = true
			p.send(m.packet(s.v))
			p.acked(PUBREC, 5, 0)
			p.send(ack(PUBREL, 5))
			p.acked(PUBCOMP, 5, 0)
			p.publish(message{topic: s.topic("b"), payload: "next", qos: 2, id: 6})
			sub.receives("once", "next")
		}),
		both("MQTT-4.3.3-2 MQTT-4.3.3-12", "after PUBCOMP the packet identifier stands for a new message", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 2})
			for _, payload := range []string{"1", "2", "3"} {
				p.publish(message{topic: s.topic("a"), payload: payload, qos: 2, id: 5})
			}
			sub.receives("1", "2", "3")
		}),
		both("MQTT-3.3.1-3", "DUP of the publisher is not passed on", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			p.publish(message{topic: s.topic("a"), payload: "x", qos: 1, dup: true})
			s.check(!sub.receives("x")[0].dup, "delivered with DUP")
		}),
		both("MQTT-3.8.4-6 MQTT-3.8.4-8", "a message is delivered at the lower of both QoS", func(s *stage) {
			p := s.connect(hello{})
			for granted := range byte(3) {
				sub := s.connect(hello{})
				sub.subscribe(filter{s.topic("+"), int(granted)})
				for qos := range byte(3) {
					p.publish(message{topic: s.topic("a"), payload: "x", qos: qos})
					m := sub.receives("x")[0]
					s.check(m.qos == min(qos, granted), "published at %d, granted %d, delivered at %d", qos, granted, m.qos)
				}
			}
		}),
		both("MQTT-4.3.3-1 MQTT-4.3.3-6", "PUBREL is answered to each PUBREC", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 2})
			sub.hold = true
			p.publish(message{topic: s.topic("a"), payload: "x", qos: 2})
			m := sub.next()
			sub.send(ack(PUBREC, m.id))
			sub.acked(PUBREL, m.id, 0)
			sub.send(ack(PUBCOMP, m.id))
			sub.nothing()
		}),
		five("MQTT-4.3.3-4", "a PUBREC with an error ends the delivery of its message", func(s *stage) {
			sub := s.connect(hello{id: "e", keep: true, lasts: 60})
			sub.subscribe(filter{s.topic("a"), 2})
			sub.hold = true
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 2})
			sub.send(packet(PUBREC, sub.next().id, 0x80))
			sub.nothing()
			sub.vanish()
			sub, _ = s.session(hello{id: "e", keep: true, lasts: 60})
			sub.nothing()
		}),
		both("MQTT-4.4.0-1", "what is not acknowledged is sent again after a reconnect, in order and with DUP", func(s *stage) {
			sub := s.connect(hello{id: "again", keep: true, lasts: 60})
			sub.subscribe(filter{s.topic("a"), 2})
			sub.hold = true
			p := s.connect(hello{})
			p.publish(message{topic: s.topic("a"), payload: "1", qos: 1}, message{topic: s.topic("a"), payload: "2", qos: 2}, message{topic: s.topic("a"), payload: "3", qos: 1})
			first := sub.receives("1", "2", "3")
			sub.vanish()
			sub, present := s.session(hello{id: "again", keep: true, lasts: 60})
			s.check(present, "the session is gone")
			for i, m := range sub.receives("1", "2", "3") {
				s.check(m.dup, "message %d without DUP", i)
				s.check(m.id == first[i].id, "message %d has another packet identifier", i)
			}
		}),
		five("MQTT-4.4.0-1", "nothing is sent again while the connection lasts", func(s *stage) {
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			sub.hold = true
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "1", qos: 1})
			sub.receives("1")
			rest(3)
			sub.nothing()
		}),
		both("MQTT-4.4.0-1", "a PUBREL that is not answered is sent again after a reconnect", func(s *stage) {
			sub := s.connect(hello{id: "rel", keep: true, lasts: 60})
			sub.subscribe(filter{s.topic("a"), 2})
			sub.hold = true
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 2})
			m := sub.next()
			sub.send(ack(PUBREC, m.id))
			sub.acked(PUBREL, m.id, 0)
			sub.vanish()
			sub, _ = s.session(hello{id: "rel", keep: true, lasts: 60})
			sub.acked(PUBREL, m.id, 0)
			sub.send(ack(PUBCOMP, m.id))
			sub.nothing()
		}),
		both("MQTT-2.3.1-4 MQTT-2.2.1-4", "a packet identifier is not used again before its acknowledgement", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			sub.hold = true
			seen := map[uint16]bool{}
			for range 15 {
				p.publish(message{topic: s.topic("a"), payload: "x", qos: 1})
				m := sub.next()
				s.check(m.id != 0 && !seen[m.id], "packet identifier %d again", m.id)
				seen[m.id] = true
			}
		}),
	)
}
