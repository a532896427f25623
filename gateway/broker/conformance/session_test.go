package conformance

import (
	"fmt"
	"time"
)

func sessionPromises() []promise {
	lasting := hello{id: "s", keep: true, lasts: 60}
	// wait lets messages of these QoS, by turns, wait for an absent client.
	wait := func(s *stage, qos ...byte) {
		h := lasting
		h.id = fmt.Sprint("s", qos[0])
		sub, p := s.connect(h), s.connect(hello{})
		sub.subscribe(filter{s.topic("a"), 2})
		sub.leave()
		var want []string
		for i := range 60 {
			want = append(want, fmt.Sprint(i))
			p.publish(message{topic: s.topic("a"), payload: fmt.Sprint(i), qos: qos[i%len(qos)]})
		}
		sub, _ = s.session(h)
		for i, m := range sub.receives(want...) {
			s.check(!m.dup, "message %d with DUP, though it was never sent", i)
		}
	}
	return concat(
		both("MQTT-3.2.2-3", "no session is present for a client that was never there", func(s *stage) {
			_, present := s.session(lasting)
			s.check(!present, "session present")
		}),
		both("MQTT-3.2.2-2 MQTT-3.2.2-3", "a session is present after a reconnect", func(s *stage) {
			p := s.connect(lasting)
			p.leave()
			_, present := s.session(lasting)
			s.check(present, "no session present")
		}),
		both("MQTT-3.2.2-1 MQTT-3.2.2-2", "no session is present for a clean start", func(s *stage) {
			p := s.connect(lasting)
			p.leave()
			_, present := s.session(hello{id: "s"})
			s.check(!present, "session present")
		}),
		both("MQTT-3.1.2-6 MQTT-3.1.2-4", "a clean start discards subscriptions and what waited", func(s *stage) {
			sub, p := s.connect(lasting), s.connect(hello{})
			sub.subscribe(filter{s.topic("a"), 1})
			sub.leave()
			p.publish(message{topic: s.topic("a"), payload: "waits", qos: 1})
			sub = s.connect(hello{id: "s"})
			p.publish(message{topic: s.topic("a"), payload: "live", qos: 1})
			sub.nothing()
		}),
		both("MQTT-3.1.2-6 3.1.2.11.2", "a session without duration ends with its connection", func(s *stage) {
			sub := s.connect(hello{id: "s"})
			sub.subscribe(filter{s.topic("a"), 1})
			sub.leave()
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "gone", qos: 1})
			sub, present := s.session(lasting)
			s.check(!present, "session present")
			sub.nothing()
		}),
		both("MQTT-3.1.2-5 MQTT-4.5.0-1", "what is published at QoS 1 and 2 meanwhile waits for an absent client, in order", func(s *stage) {
			wait(s, 1)
			wait(s, 2)
		}),
		// More than MQTT asks, which is order at the same QoS.
		both("4.6", "messages of both QoS that waited come in one order", func(s *stage) { wait(s, 1, 2) }),
		both("MQTT-3.1.2-5 MQTT-3.1.2-5", "subscriptions last as long as their session", func(s *stage) {
			sub := s.connect(lasting)
			sub.subscribe(filter{s.topic("a"), 1})
			sub.leave()
			sub, _ = s.session(lasting)
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "x", qos: 1})
			sub.receives("x")
		}),
		both("MQTT-3.1.4-2 MQTT-3.1.4-3", "a second connection of a client ends the first", func(s *stage) {
			old := s.connect(lasting)
			_, present := s.session(lasting)
			s.check(present, "no session present")
			old.closed(takenOver)
		}),
		both("MQTT-3.1.4-2 MQTT-3.1.4-3", "a take-over loses nothing", func(s *stage) {
			p, sub := s.connect(hello{}), s.connect(lasting)
			sub.subscribe(filter{s.topic("a"), 1})
			done := make(chan any, 1)
			const n = 300
			go func() {
				defer func() { done <- recover() }()
				for i := range n {
					p.publish(message{topic: s.topic("a"), payload: fmt.Sprintf("%04d", i), qos: 1})
				}
			}()
			seen, last := map[string]bool{}, ""
			for len(seen) < n {
				m := sub.next()
				s.check(m.payload >= last || m.dup, "%s after %s", m.payload, last)
				last = max(last, m.payload)
				seen[m.payload] = true
				if len(seen)%40 == 0 && len(seen) < n {
					sub, _ = s.session(lasting)
				}
			}
			if r := <-done; r != nil {
				panic(r)
			}
		}),
		both("3.1.4", "many connections of one client at once leave one that works", func(s *stage) {
			var all []*peer
			for range 20 {
				p := s.dial()
				p.offer(hello{id: s.prefix + "-s"}.packet(s.v))
				all = append(all, p)
			}
			for _, p := range all {
				_, _ = p.read() // CONNACK, or the end
			}
			p := s.connect(hello{id: "s"})
			p.nothing()
		}),
		five("MQTT-3.1.2-23", "a session ends when its expiry interval has passed", func(s *stage) {
			sub := s.connect(hello{id: "s", keep: true, lasts: 1})
			sub.subscribe(filter{s.topic("a"), 1})
			sub.leave()
			rest(3)
			s.connect(hello{}).publish(message{topic: s.topic("a"), payload: "gone", qos: 1})
			sub, present := s.session(lasting)
			s.check(!present, "session present after its expiry")
			sub.nothing()
		}),
		five("MQTT-3.1.2-23", "a session is there until its expiry interval has passed", func(s *stage) {
			p := s.connect(hello{id: "s", keep: true, lasts: 30})
			p.vanish()
			rest(1.5)
			_, present := s.session(lasting)
			s.check(present, "no session present")
		}),
		five("3.14.2.2.2", "DISCONNECT may shorten the session to nothing", func(s *stage) {
			p := s.connect(lasting)
			p.send(packet(DISCONNECT, 0, 5, pSessionExpiry, uint32(0)))
			p.gone()
			_, present := s.session(lasting)
			s.check(!present, "session present")
		}),
		five("3.1.2.11.2", "a clean start may begin a session that lasts", func(s *stage) {
			p := s.connect(hello{id: "s", lasts: 60})
			p.subscribe(filter{s.topic("a"), 1})
			p.leave()
			_, present := s.session(lasting)
			s.check(present, "no session present")
		}),
		both("MQTT-4.1.0-1", "a session lasts through connections that break", func(s *stage) {
			sub := s.connect(lasting)
			sub.subscribe(filter{s.topic("a"), 1})
			for i := range 5 {
				sub.vanish()
				s.connect(hello{}).publish(message{topic: s.topic("a"), payload: fmt.Sprint(i), qos: 1})
				var present bool
				sub, present = s.session(lasting)
				s.check(present, "no session present")
				sub.receives(fmt.Sprint(i))
			}
		}),
		both("MQTT-3.1.2-4 MQTT-4.1.0-2", "the state of messages from the client lasts with the session", func(s *stage) {
			p := s.connect(lasting)
			p.send(message{topic: s.topic("a"), payload: "x", qos: 2, id: 3}.packet(s.v))
			p.acked(PUBREC, 3, 0)
			p.leave()
			p, _ = s.session(lasting)
			p.send(ack(PUBREL, 3))
			p.acked(PUBCOMP, 3, 0)
		}),
	)
}

func willPromises() []promise {
	// dying is a client with a will, and a subscriber that waits for it.
	dying := func(s *stage, h hello) (p, sub *peer) {
		sub = s.connect(hello{})
		sub.subscribe(filter{s.topic("#"), 2})
		if h.will == nil {
			h.will = &message{payload: "will", qos: 1}
		}
		will := *h.will
		will.topic = s.topic("will")
		h.will = &will
		return s.connect(h), sub
	}
	none := func(s *stage, sub *peer) {
		s.connect(hello{}).publish(message{topic: s.topic("later"), payload: "later", qos: 1})
		sub.receives("later")
	}
	return concat(
		both("MQTT-3.1.2-8", "the will is published when the connection breaks", func(s *stage) {
			p, sub := dying(s, hello{})
			p.vanish()
			m := sub.receives("will")[0]
			s.check(m.qos == 1 && !m.retain && m.topic == s.topic("will"), "got %+v", m)
		}),
		both("MQTT-3.1.2-8", "the will is published when the client closes without DISCONNECT", func(s *stage) {
			p, sub := dying(s, hello{will: &message{payload: "will", qos: 2}})
			p.Close()
			s.check(sub.receives("will")[0].qos == 2, "not at QoS 2")
		}),
		both("MQTT-3.1.2-10 MQTT-3.14.4-3", "the will is not published after DISCONNECT", func(s *stage) {
			p, sub := dying(s, hello{})
			p.leave()
			none(s, sub)
		}),
		five("3.14.2.1", "the will is published after DISCONNECT with will", func(s *stage) {
			p, sub := dying(s, hello{})
			p.send(packet(DISCONNECT, 4))
			sub.receives("will")
		}),
		both("3.1.2.5", "the will is published after a breach of the protocol", func(s *stage) {
			p, sub := dying(s, hello{})
			p.offer(literal("0000")(s.v))
			sub.receives("will")
		}),
		both("3.1.2.5", "the will is published when the keep alive has passed", func(s *stage) {
			_, sub := dying(s, hello{keepAlive: 1})
			sub.receives("will")
		}),
		both("3.1.2.5", "the will of a connection that is taken over is published", func(s *stage) {
			p, sub := dying(s, hello{id: "w", keep: true, lasts: 60})
			s.again(p, hello{lasts: 60})
			sub.receives("will")
		}),
		both("3.1.3.3", "a will without payload is published", func(s *stage) {
			p, sub := dying(s, hello{will: &message{qos: 1}})
			p.vanish()
			sub.receives("")
		}),
		both("MQTT-3.1.2-17 MQTT-3.1.2-15", "a will with retain is retained", func(s *stage) {
			p, sub := dying(s, hello{will: &message{payload: "kept", qos: 1, retain: true}})
			p.vanish()
			sub.receives("kept")
			later := s.connect(hello{})
			later.subscribe(filter{s.topic("will"), 1})
			s.check(later.receives("kept")[0].retain, "not retained")
		}),
		both("MQTT-3.1.2-16 MQTT-3.1.2-14", "a will without retain is not retained", func(s *stage) {
			p, sub := dying(s, hello{})
			p.vanish()
			sub.receives("will")
			later := s.connect(hello{})
			later.subscribe(filter{s.topic("will"), 1})
			later.nothing()
		}),
		both("MQTT-3.1.2-10", "a will is published once", func(s *stage) {
			p, sub := dying(s, hello{id: "w", keep: true, lasts: 60})
			p.vanish()
			sub.receives("will")
			p, _ = s.again(p, hello{lasts: 60})
			p.vanish()
			none(s, sub)
		}),
		five("MQTT-3.1.3-9", "a will that waits is not published if the client comes back", func(s *stage) {
			h := hello{id: "w", keep: true, lasts: 60, willProps: cat(pWillDelay, uint32(10))}
			p, sub := dying(s, h)
			p.vanish()
			p, _ = s.again(p, hello{lasts: 60})
			rest(12)
			none(s, sub)
			p.nothing()
		}),
		five("3.1.3.2.2", "a will is published when its delay has passed", func(s *stage) {
			p, sub := dying(s, hello{id: "w", keep: true, lasts: 60, willProps: cat(pWillDelay, uint32(2))})
			began := time.Now()
			p.vanish()
			sub.receives("will")
			took := time.Since(began)
			s.check(took >= 2*time.Second, "after %v, want 2 s", took)
		}),
		five("3.1.3.2.2", "a will does not wait longer than its session lasts", func(s *stage) {
			p, sub := dying(s, hello{id: "w", keep: true, lasts: 1, willProps: cat(pWillDelay, uint32(60))})
			p.vanish()
			sub.receives("will")
		}),
		five("3.1.3.2.2", "a clean start ends the session, and the will that waited is published", func(s *stage) {
			p, sub := dying(s, hello{id: "w", keep: true, lasts: 60, willProps: cat(pWillDelay, uint32(60))})
			p.vanish()
			rest(1)
			s.connect(hello{id: "w"})
			sub.receives("will")
		}),
		five("3.1.3.2.2", "a take-over with a clean start ends the session, and the will is published", func(s *stage) {
			_, sub := dying(s, hello{id: "w", keep: true, lasts: 60, willProps: cat(pWillDelay, uint32(60))})
			s.connect(hello{id: "w"})
			sub.receives("will")
		}),
		five("3.1.3.2", "a will has its properties", func(s *stage) {
			p, sub := dying(s, hello{willProps: cat(pUser, "k", "v", pContentType, "text/plain", pFormat, 1, pMessageExpiry, uint32(100), pResponseTopic, "r", pCorrelation, "c")})
			p.vanish()
			m := sub.receives("will")[0]
			for id, want := range map[byte]string{pUser: "k=v", pContentType: "text/plain", pFormat: "\x01", pResponseTopic: "r", pCorrelation: "c"} {
				got := values(m.props, id)
				s.check(len(got) == 1 && got[0] == want, "property %#x is %q, want %q", id, got, want)
			}
			s.check(len(values(m.props, pMessageExpiry)) == 1 && len(values(m.props, pWillDelay)) == 0, "properties % x", m.props)
		}),
	)
}
