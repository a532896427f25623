package conformance

import (
	"encoding/hex"
	"fmt"
)

// breach makes promises about a packet that ends an established session, with
// MQTT 5 by one of the reasons.
func breach(clauses, name string, pk func(v version) []byte, codes ...byte) []promise {
	return both(clauses, name, breaks(pk, codes...))
}

func breaks(pk func(v version) []byte, codes ...byte) func(s *stage) {
	return func(s *stage) {
		p := s.connect(hello{})
		p.offer(pk(s.v))
		p.closed(codes...)
	}
}

// literal is a packet as it is in hexadecimal digits.
func literal(digits string) func(version) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	return func(version) []byte { return b }
}

func framingPromises() (all []promise) {
	for _, f := range []struct {
		clauses, name string
		pk            func(v version) []byte
	}{
		{"MQTT-3.8.1-1", "SUBSCRIBE", func(v version) []byte { return subscribe(v, 1, nil, filter{"a", 0}) }},
		{"MQTT-3.10.1-1", "UNSUBSCRIBE", func(v version) []byte { return unsubscribe(v, 1, "a") }},
		{"MQTT-3.6.1-1", "PUBREL", func(version) []byte { return ack(PUBREL, 1) }},
		{"MQTT-2.2.2-2 MQTT-2.1.3-1", "PUBACK", func(version) []byte { return ack(PUBACK, 1) }},
		{"MQTT-2.2.2-2 MQTT-2.1.3-1", "PUBREC", func(version) []byte { return ack(PUBREC, 1) }},
		{"MQTT-2.2.2-2 MQTT-2.1.3-1", "PUBCOMP", func(version) []byte { return ack(PUBCOMP, 1) }},
		{"MQTT-2.2.2-2 MQTT-2.1.3-1", "PINGREQ", func(version) []byte { return packet(PINGREQ) }},
		{"MQTT-3.14.1-1", "DISCONNECT", func(version) []byte { return packet(DISCONNECT) }},
	} {
		all = append(all, breach(f.clauses, f.name+" with wrong flags ends the connection", func(v version) []byte {
			b := f.pk(v)
			b[0] ^= 3
			return b
		}, malformed, protocolError)...)
	}
	server := func(name, digits string) []promise {
		return breach("2.2.1 2.1.2", name+" from a client ends the connection", literal(digits), protocolError, malformed)
	}
	early := func(name string, pk func(version) []byte) []promise {
		return both("MQTT-3.1.0-1", name+" before CONNECT ends the connection", refused(pk, 0, protocolError, malformed))
	}
	return concat(all,
		server("CONNACK", "20020000"), server("SUBACK", "9003000100"), server("UNSUBACK", "b0020001"), server("PINGRESP", "d000"),
		early("PUBLISH", func(v version) []byte { return message{topic: "a"}.packet(v) }),
		early("SUBSCRIBE", func(v version) []byte { return subscribe(v, 1, nil, filter{"a", 0}) }),
		early("PINGREQ", literal("c000")),
		early("DISCONNECT", literal("e000")),
		breach("2.2.1 2.1.2", "packet type 0 ends the connection", literal("0000"), malformed, protocolError),
		three("2.2.1", "packet type 15 ends the connection", breaks(literal("f000"))),
		five("4.12", "AUTH without an agreed method ends the connection", breaks(literal("f000"), protocolError)),
		five("4.12", "AUTH with a method that was not agreed ends the connection", breaks(func(version) []byte {
			props := cat(pAuthMethod, "SPELL")
			return packet(AUTH, 0x18, varint(len(props)), props)
		}, protocolError)),
		breach("2.2.3 1.5.5", "a remaining length of five bytes ends the connection", literal("30ffffffff7f"), malformed),
		five("MQTT-1.5.5-1", "a remaining length of more bytes than it takes ends the connection", breaks(literal("c08000"), malformed)),
		five("MQTT-3.2.2-15", "a packet larger than the largest allowed ends the connection", func(s *stage) {
			p := s.connect(hello{})
			limit, ok := p.announced(pMaximumPacket)
			s.check(ok, "no Maximum Packet Size announced")
			p.offer(message{topic: "a", payload: string(make([]byte, limit))}.packet(v5))
			p.closed(tooLarge)
		}),
		both("2.2.3 MQTT-3.2.2-15", "a packet of exactly the largest size is taken", func(s *stage) {
			p := s.connect(hello{})
			m := message{topic: s.topic("a"), qos: 1, id: 1}
			size := len(m.packet(s.v))
			m.payload = string(make([]byte, maxPacketOfServer-size-2)) // two more bytes of remaining length
			s.check(len(m.packet(s.v)) == maxPacketOfServer, "the test is wrong: %d bytes", len(m.packet(s.v)))
			p.publish(m)
		}),
		breach("3.12", "PINGREQ with a payload ends the connection", literal("c00100"), malformed, protocolError),
		three("3.14", "DISCONNECT with a payload ends the connection", breaks(literal("e00100"))),
		five("MQTT-3.14.2-1", "DISCONNECT with a reason that does not exist ends the connection", breaks(literal("e0020500"), protocolError, malformed)),
		five("3.14.2.2", "DISCONNECT with a property of another packet ends the connection", breaks(func(version) []byte {
			return packet(DISCONNECT, 0, 2, pFormat, 1)
		}, malformed, protocolError)),
		five("3.14.2.2", "DISCONNECT with a property that only servers send ends the connection", breaks(func(version) []byte {
			return packet(DISCONNECT, 0, 4, pServerReference, "x")
		}, malformed, protocolError)),
		five("3.14.2.2.2", "DISCONNECT with a session expiry given twice ends the connection", breaks(func(version) []byte {
			return packet(DISCONNECT, 0, 10, pSessionExpiry, uint32(0), pSessionExpiry, uint32(0))
		}, protocolError)),
		five("3.14.2.2.2", "DISCONNECT may not prolong a session that ends with its connection", breaks(func(version) []byte {
			return packet(DISCONNECT, 0, 5, pSessionExpiry, uint32(60))
		}, protocolError)),
		five("3.14.2.1", "DISCONNECT with bytes behind its properties ends the connection", breaks(literal("e0030000ff"), malformed)),
		both("MQTT-3.14.4-2", "nothing behind DISCONNECT is processed, and the server closes", func(s *stage) {
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("#"), 0})
			p := s.connect(hello{})
			p.offer(cat(packet(DISCONNECT), message{topic: s.topic("a"), payload: "behind"}.packet(s.v)))
			p.gone()
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "later", qos: 1})
			sub.receives("later")
		}),
		both("4.2", "packets may come in pieces of any size", func(s *stage) {
			p := s.connect(hello{})
			b := cat(subscribe(s.v, 1, nil, filter{s.topic("a"), 1}), message{topic: s.topic("a"), payload: "piece by piece", qos: 1, id: 2}.packet(s.v), packet(PINGREQ))
			for i := range b {
				p.send(b[i : i+1])
			}
			p.suback(1)
			p.acked(PUBACK, 2, 0)
			p.want(PINGRESP)
			p.receives("piece by piece")
		}),
		both("MQTT-3.12.4-1", "PINGREQ is answered, also a hundred at once", func(s *stage) {
			p := s.connect(hello{})
			for range 100 {
				p.send(packet(PINGREQ))
			}
			for range 100 {
				p.expect(PINGRESP, 0)
			}
		}),
		both("MQTT-4.8.0-1 MQTT-4.13.1-1", "a packet that is cut off by the end of the connection does no harm", func(s *stage) {
			for i := range 10 {
				p := s.connect(hello{})
				p.send(message{topic: s.topic("a"), payload: fmt.Sprint(i, "cut short")}.packet(s.v)[:i+1])
				p.vanish()
			}
			s.connect(hello{}).nothing()
		}),
	)
}
