package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// mangler makes of a PUBLISH packet on its way to a subscriber those that
// arrive. There is one for each connection.
type mangler func(packet []byte) [][]byte

// newProxy stands before a broker and gives PUBLISH packets of the broker to
// manglers. It returns its address.
func newProxy(t *testing.T, broker string, mangle func() mangler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", broker)
			if err != nil {
				client.Close()
				continue
			}
			group.Go(func() { defer server.Close(); io.Copy(server, client) })
			group.Go(func() { defer client.Close(); forward(client, server, mangle()) })
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return l.Addr().String()
}

func forward(client, server net.Conn, mangle mangler) {
	var in []byte
	for buf := make([]byte, 16<<10); ; {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		in = append(in, buf[:n]...)
		var out []byte
		for {
			first, _, rest, ok, err := NextPacket(in)
			if err != nil {
				return
			}
			if !ok {
				break
			}
			packet := in[:len(in)-len(rest)]
			if first>>4 != typePublish {
				out = append(out, packet...)
			} else {
				for _, p := range mangle(packet) {
					out = append(out, p...)
				}
			}
			in = rest
		}
		if _, err := client.Write(out); err != nil {
			return
		}
	}
}

// cannot skips a test with the reason, or fails it where it has to run.
func cannot(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("cannot run here: %s", reason)
	}
	t.Skip("SKIP: " + reason)
}

// mosquitto starts Debian's broker without limits on queues, and returns its
// address. Without it the test is skipped.
func mosquitto(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path = "/usr/sbin/mosquitto"; !exists(path) {
			cannot(t, "mosquitto is not installed")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // another process has no event to wait for
		c, _, err := Dial(t.Context(), addr, Login{ClientID: "up", Version: 4})
		if err == nil {
			c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// checked is a small load with two subscribers, under the name of the test.
func checked(t *testing.T, addr string) Load {
	return Load{
		Addr: addr, Clients: 3, Window: 20, Size: MinSize, QoS: 1, Duration: time.Minute, Messages: 3000,
		Topic: t.Name() + "/%d/temp", Version: 4, ClientID: t.Name(), Subscribers: 2, SubQoS: 1, quiet: 3 * time.Second,
	}
}

// withBrokers runs a test against brokers that make no faults: the one of the
// tests, and mosquitto.
func withBrokers(t *testing.T, test func(t *testing.T, broker func(*testing.T) string)) {
	t.Run("fake", func(t *testing.T) {
		test(t, func(t *testing.T) string { return newBroker(t, nil).Addr().String() })
	})
	t.Run("mosquitto", func(t *testing.T) {
		addr := mosquitto(t)
		test(t, func(*testing.T) string { return addr })
	})
}

// Faults are what a subscriber can find.
type faults struct{ Lost, Duplicates, OutOfOrder, Foreign int64 }

func found(r Result) faults { return faults{r.Lost, r.Duplicates, r.OutOfOrder, r.Foreign} }

func TestAGoodBrokerIsFoundToDeliverAllOnceAndInOrder(t *testing.T) {
	withBrokers(t, func(t *testing.T, broker func(*testing.T) string) {
		for name, change := range map[string]func(*Load){
			"QoS 1":             func(*Load) {},
			"QoS 0":             func(l *Load) { l.QoS, l.SubQoS = 0, 0 },
			"QoS 1 to QoS 0":    func(l *Load) { l.SubQoS = 0 },
			"MQTT 5":            func(l *Load) { l.Version = 5 },
			"MQTT 5 at QoS 0":   func(l *Load) { l.Version, l.QoS, l.SubQoS = 5, 0, 0 },
			"one topic for all": func(l *Load) { l.Topic = "plant/all/temp" },
			"large payloads":    func(l *Load) { l.Size, l.Messages = 5000, 500 },
			"at a rate, for a time": func(l *Load) {
				l.Rate, l.Duration, l.Messages, l.Warmup = 3000, time.Second, 0, 50*time.Millisecond
			},
		} {
			t.Run(name, func(t *testing.T) {
				l := checked(t, broker(t))
				change(&l)
				r, err := Run(t.Context(), l)
				if err != nil {
					t.Fatal(err)
				}
				if r.Failed() || found(r) != (faults{}) || r.Received != 2*r.Sent || r.Sent == 0 {
					t.Errorf("got %+v", r)
				}
				if r.DeliverP50 == 0 || r.DeliverP99 < r.DeliverP50 || r.DeliverMax < r.DeliverP99 || r.DeliverMax > time.Minute {
					t.Errorf("latencies make no sense: %+v", r)
				}
			})
		}
	})
}

// The proxy does this to the messages on their way to each subscriber.
func TestEachFaultOfABrokerIsCounted(t *testing.T) {
	pass := func(p []byte) [][]byte { return [][]byte{p} }
	// nth makes a mangler that does one thing to certain messages.
	nth := func(chosen func(n int) bool, do func(p []byte) [][]byte) func() mangler {
		return func() mangler {
			n := -1
			return func(p []byte) [][]byte {
				if n++; chosen(n) {
					return do(p)
				}
				return pass(p)
			}
		}
	}
	drop := func([]byte) [][]byte { return nil }
	twice := func(p []byte) [][]byte { return [][]byte{p, p} }
	// swapped exchanges the message n with the next one of the same topic.
	swapped := func(n int) func() mangler {
		return func() mangler {
			var held []byte
			left := n
			return func(p []byte) [][]byte {
				left--
				switch {
				case left == 0:
					held = bytes.Clone(p)
					return nil
				case held != nil && bytes.Equal(topicOf(held), topicOf(p)):
					late := held
					held = nil
					return [][]byte{p, late}
				}
				return pass(p)
			}
		}
	}
	const last = 3000 - 1
	withBrokers(t, func(t *testing.T, broker func(*testing.T) string) {
		tests := []struct {
			name   string
			mangle func() mangler
			want   faults // of one subscriber
		}{
			{"nothing", func() mangler { return pass }, faults{}},
			{"one lost", nth(func(n int) bool { return n == 1000 }, drop), faults{Lost: 1}},
			{"the first lost", nth(func(n int) bool { return n == 0 }, drop), faults{Lost: 1}},
			{"the last lost", nth(func(n int) bool { return n == last }, drop), faults{Lost: 1}},
			{"a run lost", nth(func(n int) bool { return n >= 1000 && n < 1200 }, drop), faults{Lost: 200}},
			{"some lost", nth(func(n int) bool { return n%300 == 7 }, drop), faults{Lost: 10}},
			{"all lost", nth(func(int) bool { return true }, drop), faults{Lost: last + 1}},
			{"one twice", nth(func(n int) bool { return n == 1000 }, twice), faults{Duplicates: 1}},
			{"the last twice", nth(func(n int) bool { return n == last }, twice), faults{Duplicates: 1}},
			{"some twice", nth(func(n int) bool { return n%300 == 7 }, twice), faults{Duplicates: 10}},
			{"two exchanged", swapped(1000), faults{OutOfOrder: 1}},
			{"garbled", nth(func(n int) bool { return n == 1000 }, func(p []byte) [][]byte {
				p = bytes.Clone(p)
				p[len(p)-MinSize+atSeq+5] = 'x'
				return [][]byte{p}
			}), faults{Lost: 1, Foreign: 1}},
		}
		// All at once: most of the time is spent waiting for what is lost.
		var all sync.WaitGroup
		loads, results, errs := make([]Load, len(tests)), make([]Result, len(tests)), make([]error, len(tests))
		for i, test := range tests {
			l := checked(t, newProxy(t, broker(t), test.mangle))
			l.Topic, l.ClientID = fmt.Sprintf("%s/%d/%%d/temp", t.Name(), i), fmt.Sprintf("%s/%d/", t.Name(), i)
			loads[i] = l
			all.Go(func() { results[i], errs[i] = Run(t.Context(), l) })
		}
		all.Wait()
		for i, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				l, r := loads[i], results[i]
				if errs[i] != nil {
					t.Fatal(errs[i])
				}
				n := int64(l.Subscribers)
				want := faults{n * test.want.Lost, n * test.want.Duplicates, n * test.want.OutOfOrder, n * test.want.Foreign}
				if found(r) != want {
					t.Errorf("found %+v, want %+v; %d sent, %d received", found(r), want, r.Sent, r.Received)
				}
				if r.Received != n*r.Sent-want.Lost+want.Duplicates+want.Foreign || r.Sent != l.Messages || r.Unacknowledged > 0 {
					t.Errorf("the count is wrong: %+v", r)
				}
				if failed := want != (faults{}); r.Failed() != failed {
					t.Errorf("Failed() = %v, want %v", r.Failed(), failed)
				}
			})
		}
	})
}

func topicOf(packet []byte) []byte {
	_, body, _, _, _ := NextPacket(packet)
	return body[:2+binary.BigEndian.Uint16(body)]
}

func TestWhatTheBrokerRefusedOrNeverAcknowledgedIsNotOwed(t *testing.T) {
	refuse := func(c net.Conn, n int, id uint16) error {
		if n%10 == 3 {
			return puback(c, id, 0x97)
		}
		return puback(c, id)
	}
	closed := errors.New("closed")
	silent := func(c net.Conn, n int, id uint16) error {
		if n >= 500 {
			return closed
		}
		return puback(c, id)
	}
	for name, test := range map[string]struct {
		ack  func(net.Conn, int, uint16) error
		keep func(int) bool
		lost bool
	}{
		"refused and not delivered":     {refuse, func(n int) bool { return n%10 == 3 }, false},
		"refused, and delivered":        {refuse, nil, false},
		"connection lost":               {silent, func(n int) bool { return n >= 500 }, false},
		"acknowledged, never delivered": {nil, func(n int) bool { return n == 500 }, true},
	} {
		b := newBroker(t, test.ack)
		b.keep = test.keep
		r, err := Run(t.Context(), checked(t, b.Addr().String()))
		if err != nil {
			t.Fatal(err)
		}
		if r.Lost > 0 != test.lost || r.Duplicates+r.OutOfOrder+r.Foreign > 0 || !r.Failed() {
			t.Errorf("%s: got %+v", name, r)
		}
		far := int64(0) // publishers that came to message 500
		for _, n := range b.topics {
			if n > 500 {
				far++
			}
		}
		if test.lost && r.Lost != 2*far {
			t.Errorf("%s: lost %d, want %d", name, r.Lost, 2*far)
		}
	}
}

func TestMessagesOfOthersDoNotCount(t *testing.T) {
	b := newBroker(t, nil)
	old, err := newReadings(1, MinSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	old.next(time.Now().Add(-time.Minute).UnixMilli())
	sent := false
	b.keep = func(int) bool { // the caller holds the lock of the broker
		if !sent {
			sent = true
			b.route("plant/1/temp", old.payload, 1) // of an earlier run
			b.route("plant/x/temp", []byte("21.5"), 0)
			b.route("plant/x/temp", nil, 0)
		}
		return false
	}
	r, err := Run(t.Context(), checked(t, b.Addr().String()))
	if err != nil || r.Failed() || r.Foreign != 6 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestARefusedSubscriptionEndsTheRun(t *testing.T) {
	b := newBroker(t, nil)
	b.refuse = true
	if _, err := Run(t.Context(), checked(t, b.Addr().String())); err == nil || !strings.Contains(err.Error(), "subscriber 0: the broker refused the subscription") {
		t.Errorf("got %v", err)
	}
}

func TestALostSubscriberIsReported(t *testing.T) {
	b := newBroker(t, nil)
	b.keep = func(n int) bool {
		if n == 100 && len(b.subs) == 2 {
			b.subs[1].Close()
			b.subs = b.subs[:1]
		}
		return false
	}
	l := checked(t, b.Addr().String())
	l.Clients = 1
	r, err := Run(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Errors) != 1 || !strings.Contains(r.Errors[0], "subscriber 1: ") || r.Lost < 2900 || r.Lost == 3000 { // what was under way may be lost, too
		t.Errorf("got %+v", r)
	}
}

// mosquitto_sub is sent the same, by the same proxy, and counts for itself.
func TestTheCountAgreesWithThatOfMosquittoSub(t *testing.T) {
	broker := mosquitto(t)
	tool, err := exec.LookPath("mosquitto_sub")
	if err != nil {
		cannot(t, "mosquitto_sub is not installed")
	}
	for name, lossy := range map[string]bool{"good": false, "lossy": true} {
		t.Run(name, func(t *testing.T) {
			addr := newProxy(t, broker, func() mangler {
				return func(p []byte) [][]byte {
					if body := p[max(0, len(p)-MinSize):]; lossy {
						if _, seq, _, ok := readReading(body); ok && seq%100 == 42 {
							return nil
						}
					}
					return [][]byte{p}
				}
			})
			host, port, _ := net.SplitHostPort(addr)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, tool, "-h", host, "-p", port, "-q", "1", "-t", "plant/+/temp", "-F", "%t")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cancel()
			topics := make(chan string, 100_000)
			go func() {
				defer close(topics)
				for s := bufio.NewScanner(out); s.Scan(); {
					topics <- s.Text()
				}
			}()
			say := func(topic string) {
				c, _, err := Dial(ctx, broker, Login{ClientID: "say", Version: 4})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.Write(AppendPublish(nil, 4, topic, []byte("x"), 1, 1, false))
				c.Read(make([]byte, 4)) // its PUBACK
			}
			for subscribed := false; !subscribed; {
				say("plant/begin/temp")
				select {
				case <-topics:
					subscribed = true
				case <-time.After(50 * time.Millisecond): // its subscription is not yet in force
				}
			}
			l := checked(t, addr)
			l.Messages, l.Topic = 20_000, "plant/%d/temp"
			r, err := Run(ctx, l)
			if err != nil {
				t.Fatal(err)
			}
			say("plant/end/temp")
			count := int64(0)
			for topic := range topics {
				if topic == "plant/end/temp" {
					break
				}
				if topic != "plant/begin/temp" {
					count++
				}
			}
			if r.Received != 2*count || r.Sent-r.Lost/2 != count || lossy != (r.Lost > 0) || r.Duplicates+r.OutOfOrder > 0 {
				t.Errorf("mosquitto_sub counted %d, bench %+v", count, r)
			}
			t.Logf("of %d messages sent, mosquitto_sub counted %d; each of 2 subscribers of bench %d, and %d lost",
				r.Sent, count, r.Received/2, r.Lost/2)
		})
	}
}

func TestDeliveriesAreToldApart(t *testing.T) {
	var d deliveries
	var got []string
	for _, seq := range []uint64{0, 1, 3, 2, 2, 200, 199, 200, 0, 201} {
		got = append(got, []string{"ok", "late", "again"}[d.add(seq)])
	}
	if want := "ok ok ok late again ok late again again ok"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if d.count != 7 || d.next != 202 || d.has(198) || !d.has(199) || d.has(1<<40) {
		t.Errorf("%d of %d: %s", d.count, d.next, fmt.Sprint(d.seen))
	}
}
