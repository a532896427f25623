package conformance

import (
	"fmt"
	"strings"
	"time"
)

// refusal makes promises about a CONNECT that is refused: with 3.1.1 by code4,
// or by the end of the connection if that is 0.
func refusal(clauses, name string, pk func(v version) []byte, code4 byte, codes ...byte) []promise {
	return both(clauses, name, refused(pk, code4, codes...))
}

func refused(pk func(v version) []byte, code4 byte, codes ...byte) func(s *stage) {
	return func(s *stage) {
		p := s.dial()
		p.offer(pk(s.v))
		p.refused(code4, codes...)
	}
}

// raw is a CONNECT with everything given.
func raw(name string, level, flags int, payload ...any) func(v version) []byte {
	return func(v version) []byte {
		spoken := level
		if spoken < 0 {
			spoken = int(v)
		}
		return packet(CONNECT, name, spoken, flags, uint16(0), v.properties(nil), cat(payload...))
	}
}

// with is a CONNECT with properties.
func with(props ...any) func(v version) []byte {
	return func(v version) []byte { return hello{id: "with", props: cat(props...)}.packet(v) }
}

// leaving is a CONNECT with a will.
func leaving(will message, props ...any) func(v version) []byte {
	return func(v version) []byte {
		return hello{id: "leaving", will: &will, willProps: cat(props...)}.packet(v)
	}
}

func connectPromises() []promise {
	const own = -1 // the level of the version
	text := func(s string) *string { return &s }
	connects := func(h hello) func(*stage) {
		return func(s *stage) { s.connect(h).nothing() }
	}
	return concat(
		refusal("MQTT-3.1.2-1", "a protocol name that is not MQTT is refused", raw("MQTX", own, 2, "a"), 0, badVersion, malformed, protocolError),
		refusal("MQTT-3.1.2-1", "a protocol name in small letters is refused", raw("mqtt", own, 2, "a"), 0, badVersion, malformed, protocolError),
		refusal("MQTT-3.1.2-1", "a protocol name that is cut short is refused", func(version) []byte { return packet(CONNECT, 0, 4, []byte("MQ")) }, 0, badVersion, malformed, protocolError),
		three("MQTT-3.1.2-2", "protocol level 2 is refused with code 1", refused(raw("MQTT", 2, 2, "a"), 1)),
		three("MQTT-3.1.2-2", "protocol level 6 is refused", func(s *stage) {
			p := s.dial()
			p.offer(raw("MQTT", 6, 2, 0, "a")(v4))
			r, err := p.read()
			if err == nil {
				s.check(r.kind() == CONNACK && len(r.body) >= 2 && (r.body[1] == 1 || r.body[1] == badVersion), "got %s, want code 1 or 0x84", r)
				p.gone()
			} else {
				p.ended(err)
			}
		}),
		refusal("MQTT-3.1.2-3", "the reserved flag of CONNECT must be 0", raw("MQTT", own, 3, "a"), 0, malformed, protocolError),
		refusal("MQTT-3.1.2-11", "will QoS 1 without a will is refused", raw("MQTT", own, 2|0x08, "a"), 0, malformed, protocolError),
		refusal("MQTT-3.1.2-15 MQTT-3.1.2-13", "will retain without a will is refused", raw("MQTT", own, 2|0x20, "a"), 0, malformed, protocolError),
		refusal("MQTT-3.1.2-14 MQTT-3.1.2-12", "will QoS 3 is refused", func(v version) []byte {
			return packet(CONNECT, "MQTT", int(v), 2|4|0x18, uint16(0), v.properties(nil), "a", v.properties(nil), "t", "x")
		}, 0, malformed, protocolError, 0x9B),
		refusal("MQTT-3.1.2-9", "a will flag without will topic and message is refused", raw("MQTT", own, 2|4, "a"), 0, malformed, protocolError),
		refusal("MQTT-3.1.2-19 MQTT-3.1.2-17", "a user name flag without a user name is refused", raw("MQTT", own, 2|0x80, "a"), 0, malformed, protocolError),
		refusal("MQTT-3.1.2-21 MQTT-3.1.2-19", "a password flag without a password is refused", raw("MQTT", own, 2|0xC0, "a", "user"), 0, malformed, protocolError),
		three("MQTT-3.1.2-22", "a password without a user name is refused", refused(raw("MQTT", own, 2|0x40, "a", "secret"), 0)),
		five("3.1.2.9", "a password without a user name is well formed", connects(hello{password: text("secret")})),
		refusal("MQTT-3.1.3-1", "bytes behind the payload are refused", raw("MQTT", own, 2, "a", "more"), 0, malformed, protocolError),
		refusal("MQTT-3.1.3-3", "a CONNECT without a client id is refused", raw("MQTT", own, 2), 0, malformed, protocolError),
		refusal("MQTT-3.1.3-3", "a CONNECT that ends in its client id is refused", raw("MQTT", own, 2, 0, 9, 'a'), 0, malformed, protocolError),
		refusal("MQTT-3.1.3-4", "a client id that is not UTF-8 is refused", raw("MQTT", own, 2, "a\xff"), 0, malformed, protocolError, badClientID),
		refusal("MQTT-1.5.3-2 MQTT-1.5.4-2", "a client id with a null character is refused", raw("MQTT", own, 2, "a\x00b"), 0, malformed, protocolError, badClientID),
		both("MQTT-3.1.3-5", "client ids of 23 letters and digits are taken", func(s *stage) {
			id := "0123456789abcdefghijKLM"
			if s.v == v5 {
				id = "0123456789NOPQRSTUVWXYZ"
			}
			p := s.dial()
			p.send(hello{id: id}.packet(s.v))
			p.connack()
		}),
		three("MQTT-3.1.3-8", "no client id and a session that lasts is refused with code 2", refused(raw("MQTT", own, 0, ""), 2)),
		three("MQTT-3.1.3-6", "no client id and a clean session is accepted", func(s *stage) {
			a, b := s.dial(), s.dial()
			for _, p := range []*peer{a, b} {
				p.send(hello{}.packet(v4))
				p.connack()
			}
			a.nothing() // they are two clients
			b.nothing()
		}),
		five("MQTT-3.1.3-6", "no client id is accepted, and a client id assigned", func(s *stage) {
			a, b := s.dial(), s.dial()
			for _, p := range []*peer{a, b} {
				p.send(hello{keep: true}.packet(v5))
				p.connack()
				s.check(len(values(p.props, pAssignedID)) == 1, "no Assigned Client Identifier")
			}
			s.check(values(a.props, pAssignedID)[0] != values(b.props, pAssignedID)[0], "two clients got the same id") // [MQTT-3.2.2-16]
			a.nothing()
			b.nothing()
		}),
		refusal("MQTT-3.1.3-11 MQTT-3.1.3-12", "a user name that is not UTF-8 is refused", func(v version) []byte {
			return hello{id: "a", user: text("\xc3\x28")}.packet(v)
		}, 0, malformed, protocolError, 0x86),
		both("MQTT-3.1.3-10 MQTT-3.1.3-13", "an empty password is well formed", connects(hello{user: text("u"), password: text("")})),
		both("3.1.3.3", "a will without a payload is well formed", func(s *stage) {
			s.connect(hello{will: &message{topic: s.topic("will")}}).nothing()
		}),
		refusal("MQTT-3.1.3-10 MQTT-3.1.3-11", "a will topic that is not UTF-8 is refused", leaving(message{topic: "a\xff"}), 0, malformed, protocolError, badTopic),
		refusal("MQTT-3.3.2-2", "a will topic with a wildcard is refused", leaving(message{topic: "a/#"}), 0, malformed, protocolError, badTopic),
		refusal("MQTT-4.7.3-1", "an empty will topic is refused", leaving(message{}), 0, malformed, protocolError, badTopic),
		refusal("MQTT-2.2.2-2 MQTT-2.1.3-1", "flags in the header of CONNECT are refused", func(v version) []byte {
			b := hello{id: "a"}.packet(v)
			b[0] |= 1
			return b
		}, 0, malformed, protocolError),
		both("MQTT-3.1.0-2", "a second CONNECT ends the connection", func(s *stage) {
			p := s.connect(hello{})
			p.offer(hello{id: p.id}.packet(s.v))
			p.closed(protocolError)
		}),
		both("MQTT-3.1.4-5 MQTT-3.1.4-6", "what follows a refused CONNECT is not processed", func(s *stage) {
			sub := s.connect(hello{})
			sub.subscribe(filter{s.topic("#"), 0})
			p := s.dial()
			p.offer(cat(raw("MQTT", own, 3, "a")(s.v), message{topic: s.topic("a"), payload: "refused"}.packet(s.v)))
			p.refused(0, malformed, protocolError)
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "later", qos: 1})
			sub.receives("later")
		}),
		both("3.1.4", "packets may follow CONNECT before CONNACK has come", func(s *stage) {
			p := s.dial()
			p.send(cat(hello{id: s.prefix + "-eager"}.packet(s.v), subscribe(s.v, 1, nil, filter{s.topic("a"), 0}), packet(PINGREQ)))
			p.connack()
			p.suback(1)
			p.want(PINGRESP)
		}),

		five("3.1.2.11.2", "a session expiry given twice is refused", refused(with(pSessionExpiry, uint32(1), pSessionExpiry, uint32(2)), 0, protocolError)),
		five("3.1.2.11.3", "receive maximum 0 is refused", refused(with(pReceiveMaximum, uint16(0)), 0, protocolError)),
		five("3.1.2.11.3", "a receive maximum given twice is refused", refused(with(pReceiveMaximum, uint16(1), pReceiveMaximum, uint16(1)), 0, protocolError)),
		five("3.1.2.11.4", "maximum packet size 0 is refused", refused(with(pMaximumPacket, uint32(0)), 0, protocolError)),
		five("3.1.2.11.5", "a topic alias maximum given twice is refused", refused(with(pTopicAliasMax, uint16(1), pTopicAliasMax, uint16(1)), 0, protocolError)),
		five("3.1.2.11.6", "request response information 2 is refused", refused(with(pRequestResponse, 2), 0, protocolError)),
		five("3.1.2.11.7", "request problem information 2 is refused", refused(with(pRequestProblem, 2), 0, protocolError)),
		five("3.1.2.11.8", "user properties may be repeated", connects(hello{props: cat(pUser, "a", "1", pUser, "a", "1")})),
		five("MQTT-1.5.4-1", "a user property that is not UTF-8 is refused", refused(with(pUser, "a", "\xff"), 0, malformed, protocolError)),
		five("3.1.2.11.10", "authentication data without a method is refused", refused(with(pAuthData, "x"), 0, protocolError)),
		five("MQTT-4.12.0-1", "an authentication method that is not supported is refused", refused(with(pAuthMethod, "SPELL"), 0, badMethod, notAuthorized)),
		five("2.2.2.2", "an unknown property is refused", refused(with(unknownProperty, 1), 0, malformed, protocolError)),
		five("2.2.2.2", "a property of another packet is refused", refused(with(pTopicAlias, uint16(1)), 0, malformed, protocolError)),
		five("2.2.2.2", "a property that only servers send is refused", refused(with(pAssignedID, "x"), 0, malformed, protocolError)),
		five("2.2.2.1", "properties that are longer than the packet are refused", refused(func(version) []byte {
			return packet(CONNECT, "MQTT", 5, 2, uint16(0), 40, "a")
		}, 0, malformed, protocolError)),
		five("MQTT-1.5.5-1", "a property length of more bytes than it takes is refused", refused(func(version) []byte {
			return packet(CONNECT, "MQTT", 5, 2, uint16(0), 0x80, 0, "a")
		}, 0, malformed, protocolError)),
		five("3.1.3.2.2", "a will delay given twice is refused", refused(leaving(message{topic: "a"}, pWillDelay, uint32(1), pWillDelay, uint32(1)), 0, protocolError)),
		five("3.1.3.2.3", "will payload format 2 is refused", refused(leaving(message{topic: "a"}, pFormat, 2), 0, protocolError, malformed)),
		five("3.1.3.2", "a will property that is no will's is refused", refused(leaving(message{topic: "a"}, pTopicAlias, uint16(1)), 0, malformed, protocolError)),
		five("MQTT-3.3.2-14", "a will's response topic with a wildcard is refused", refused(leaving(message{topic: "a"}, pResponseTopic, "a/+"), 0, malformed, protocolError, badTopic)),
		five("3.2.2.3", "CONNACK announces the server's limits", func(s *stage) {
			p := s.connect(hello{})
			for id, name := range map[byte]string{pMaximumPacket: "Maximum Packet Size", pTopicAliasMax: "Topic Alias Maximum", pReceiveMaximum: "Receive Maximum"} {
				_, ok := p.announced(id)
				s.check(ok, "no %s", name)
			}
		}),
		five("MQTT-3.1.2-28", "no response information is sent to who did not ask", func(s *stage) {
			p := s.connect(hello{props: cat(pRequestResponse, 0)})
			s.check(len(values(p.props, pResponseInfo)) == 0, "there is response information")
		}),

		both("MQTT-3.1.2-24 MQTT-3.1.2-22", "a client that is silent for one and a half keep alives is disconnected", func(s *stage) {
			began := time.Now()
			p := s.connect(hello{keepAlive: 2})
			p.closed(keepAlive)
			took := time.Since(began)
			s.check(took >= 3*time.Second, "closed after %v, want 3 s", took)
		}),
		both("MQTT-3.1.2-23 3.1.2.10", "packets of all kinds keep a client alive", func(s *stage) {
			p := s.connect(hello{keepAlive: 10})
			for i := range 18 { // more than 15 s, and less in between than a slow machine may take
				p.publish(message{topic: s.topic("t"), payload: fmt.Sprint(i)})
				time.Sleep(time.Second)
			}
			p.alive()
		}),
		both("3.1.2.10", "a keep alive of 43,691 s is not cut to 16 bits", func(s *stage) {
			p := s.connect(hello{keepAlive: 43691})
			time.Sleep(300 * time.Millisecond)
			p.alive()
		}),
		both("3.1.2.10", "keep alive 0 switches it off", func(s *stage) {
			p := s.connect(hello{})
			time.Sleep(3 * time.Second)
			p.alive()
		}),
		both("3.1.4", "a client that says nothing is disconnected in reasonable time", func(s *stage) {
			late(s, func(*peer) {})
		}),
		both("3.1.4", "a client that does not end its CONNECT is disconnected in reasonable time", func(s *stage) {
			late(s, func(p *peer) { p.offer(hello{id: "half"}.packet(s.v)[:8]) })
		}),
		both("3.1.4", "a CONNECT that comes byte by byte is not waited for without end", func(s *stage) {
			late(s, func(p *peer) {
				b := hello{id: strings.Repeat("slow", 20)}.packet(s.v)
				go func() {
					for i := range b {
						if _, err := p.Write(b[i : i+1]); err != nil {
							return
						}
						time.Sleep(500 * time.Millisecond)
					}
				}()
			})
		}),
		refusal("MQTT-3.2.2-15", "a CONNECT larger than the largest packet is refused", func(v version) []byte {
			most := strings.Repeat("x", 65535)
			return hello{id: "large", will: &message{topic: most, payload: most}, user: &most, password: &most}.packet(v)
		}, 0, tooLarge, malformed),
	)
}

// late wants a connection closed without a session.
func late(s *stage, say func(*peer)) {
	p := s.dial()
	say(p)
	r, err := p.read()
	s.check(err != nil, "got %s, want the end", r)
	p.ended(err)
}

func concat(all ...[]promise) (one []promise) {
	for _, p := range all {
		one = append(one, p...)
	}
	return one
}
