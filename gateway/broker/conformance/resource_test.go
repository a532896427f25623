package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// resourcePromises are about peers that want to harm the server. That the
// well-behaved client does not wait, and memory stays in bounds, is seen beside
// them.
func resourcePromises() []promise {
	return concat(
		both("2.2.3 2.1.4", "a CONNECT that announces 256 MB reserves no memory", func(s *stage) {
			for range 20 {
				s.dial().offer(literal("10f0ffff7f00044d")(s.v))
			}
			rest(1)
			s.connect(hello{}).alive()
		}),
		both("2.2.3 2.1.4", "a PUBLISH that announces 256 MB ends the connection", func(s *stage) {
			for range 10 {
				p := s.connect(hello{})
				p.offer(literal("30ffffff7f000161")(s.v))
				p.closed(tooLarge, malformed)
			}
		}),
		both("5.4.8 4.13", "200 connections that say nothing keep nobody out", func(s *stage) {
			for range 200 {
				s.dial()
			}
			s.connect(hello{}).alive()
		}),
		both("4.7.3", "a filter of 65,000 levels holds up nobody", func(s *stage) {
			for range 3 {
				p := s.connect(hello{})
				p.offer(subscribe(s.v, 1, nil, filter{strings.Repeat("/", 65_000), 1}))
				_, _ = p.read()
			}
			s.connect(hello{}).subscribe(filter{s.topic("a"), 1})
		}),
		both("4.7.3", "a retained message on a topic of 65,000 levels holds up nobody", func(s *stage) {
			for range 3 {
				p := s.connect(hello{})
				p.offer(message{topic: s.prefix + strings.Repeat("/x", 32_000), payload: "x", qos: 1, id: 1, retain: true}.packet(s.v))
				_, _ = p.read()
			}
			s.connect(hello{}).subscribe(filter{s.topic("a"), 1})
		}),
		both("3.8.3", "a SUBSCRIBE with 20,000 filters is answered or refused", func(s *stage) {
			p := s.connect(hello{})
			var filters []filter
			for i := range 20_000 {
				filters = append(filters, filter{fmt.Sprintf("%s/%d", s.prefix, i), 1})
			}
			p.offer(subscribe(s.v, 1, nil, filters...))
			_, err := p.read()
			if err != nil {
				p.ended(err)
			}
			s.connect(hello{}).alive()
		}),
		both("4.13", "ten thousand acknowledgements of nothing do no harm", func(s *stage) {
			p := s.connect(hello{})
			var b []byte
			for i := range 10_000 {
				b = append(b, ack([]int{PUBACK, PUBCOMP, PUBREL}[i%3], uint16(i+1))...)
			}
			go p.offer(b)
			for i := 2; i < 10_000; i += 3 {
				p.acked(PUBCOMP, uint16(i+1), unknownID)
			}
			p.alive()
		}),
		both("4.13", "noise ends connections and nothing else", func(s *stage) {
			random := rand.New(rand.NewPCG(1, uint64(s.v)))
			for range 60 {
				p := s.connect(hello{})
				noise := make([]byte, 2000)
				for i := range noise {
					noise[i] = byte(random.Uint32())
				}
				p.offer(noise)
				p.Close()
			}
			s.connect(hello{}).alive()
		}),
		both("4.13", "packets with one byte wrong end connections and nothing else", func(s *stage) {
			random := rand.New(rand.NewPCG(2, uint64(s.v)))
			good := cat(subscribe(s.v, 1, nil, filter{s.topic("a"), 1}), message{topic: s.topic("a"), payload: "x", qos: 1, id: 2, props: cat(pUser, "k", "v", pFormat, 1)}.packet(s.v),
				ack(PUBREL, 3), unsubscribe(s.v, 4, s.topic("a")), ack(PUBACK, 1), packet(PINGREQ))
			for range 60 {
				p := s.connect(hello{})
				bad := cat(good)
				bad[random.IntN(len(bad))] = byte(random.Uint32())
				p.offer(bad)
				p.Close()
			}
			s.connect(hello{}).alive()
		}),
		both("3.1.4", "300 connections that come and go do no harm", func(s *stage) {
			var all sync.WaitGroup
			var mu sync.Mutex
			var failed any
			for i := range 10 {
				sub := &stage{server: s.server, v: s.v, prefix: fmt.Sprintf("%s-%d", s.prefix, i)}
				all.Go(func() {
					defer sub.end()
					defer func() {
						if r := recover(); r != nil {
							mu.Lock()
							failed = r
							mu.Unlock()
						}
					}()
					for range 30 {
						p := sub.connect(hello{id: "x", keep: true, lasts: 5})
						p.subscribe(filter{sub.topic("a"), 1})
						p.vanish()
					}
				})
			}
			all.Wait()
			if failed != nil {
				panic(failed)
			}
		}),
		both("4.6 4.9", "a subscriber that stops reading holds up neither its publisher nor its own return", func(s *stage) {
			stuck := s.connect(hello{id: "stuck", keep: true, lasts: 60})
			stuck.subscribe(filter{s.topic("a"), 1})
			p := s.connect(hello{})
			payload := strings.Repeat("x", 60_000)
			for i := range 200 {
				began := time.Now()
				p.publish(message{topic: s.topic("a"), payload: payload, qos: 1})
				took := time.Since(began)
				s.check(took < longestWait, "message %d was acknowledged after %v", i, took)
			}
			began := time.Now()
			s.session(hello{id: "stuck", keep: true, lasts: 60})
			took := time.Since(began)
			s.check(took < longestWait, "CONNACK after %v", took)
		}),
		both("4.13", "a client that does not read its answers holds up nobody", func(s *stage) {
			p := s.connect(hello{})
			_ = p.SetWriteDeadline(time.Now().Add(3 * time.Second))
			burst := strings.Repeat(string(packet(PINGREQ)), 1<<16)
			for range 100 {
				if _, err := p.Write([]byte(burst)); err != nil {
					break
				}
			}
			s.connect(hello{}).alive()
		}),
		both("3.3", "a publisher faster than the disk is slowed down, and loses nothing", func(s *stage) {
			p := s.connect(hello{})
			var b []byte
			const n = 20_000
			payload := strings.Repeat("x", 100)
			for i := range n {
				b = append(b, message{topic: s.topic("a"), payload: payload, qos: 1, id: uint16(i%1000 + 1)}.packet(s.v)...)
			}
			size := len(b) / n
			for i := 0; i < n; i += 500 {
				p.send(b[i*size : (i+500)*size])
				for k := range 500 {
					p.acked(PUBACK, uint16((i+k)%1000+1), 0)
				}
			}
		}),
		five("3.1.2.11.3", "500 messages at QoS 2 without PUBREL, released later, are all completed", func(s *stage) {
			p := s.connect(hello{})
			for id := range uint16(500) {
				p.send(message{topic: s.topic("a"), qos: 2, id: id + 1}.packet(v5))
			}
			for id := range uint16(500) {
				p.acked(PUBREC, id+1, 0)
			}
			for id := range uint16(500) {
				p.send(ack(PUBREL, 500-id))
			}
			for id := range uint16(500) {
				p.acked(PUBCOMP, 500-id, 0)
			}
		}),
	)
}
