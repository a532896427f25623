package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A broker accepts connections and answers PUBLISH packets as told. Whoever
// subscribes is sent everything.
type broker struct {
	net.Listener
	mu       sync.Mutex
	payloads [][]byte
	topics   map[string]int
	subs     []*sub
	// ack answers the n-th PUBLISH of a connection; nil acknowledges.
	ack func(c net.Conn, n int, id uint16) error
	// refuse answers SUBSCRIBE with a failure.
	refuse bool
	// keep says whether the n-th PUBLISH of a connection is for nobody.
	keep func(n int) bool
}

// sub is a client that has subscribed.
type sub struct {
	net.Conn
	version, qos byte
	id           uint16
}

func newBroker(t *testing.T, ack func(c net.Conn, n int, id uint16) error) *broker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{Listener: l, topics: map[string]int{}, ack: ack}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); b.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return b
}

func puback(c net.Conn, id uint16, code ...byte) error {
	p := binary.BigEndian.AppendUint16([]byte{typePuback << 4, byte(2 + len(code))}, id)
	_, err := c.Write(append(p, code...))
	return err
}

func (b *broker) serve(c net.Conn) {
	var in []byte
	n, buf := 0, make([]byte, 4096)
	version := byte(4)
	for {
		k, err := c.Read(buf)
		if err != nil {
			return
		}
		in = append(in, buf[:k]...)
		for {
			first, body, rest, ok, err := NextPacket(in)
			if err != nil {
				return
			}
			if !ok {
				break
			}
			switch first >> 4 {
			case 1:
				if version = body[6]; version == 5 {
					c.Write([]byte{typeConnack << 4, 3, 0, 0, 0})
				} else {
					c.Write([]byte{typeConnack << 4, 2, 0, 0})
				}
			case 8:
				b.subscribe(c, version, body)
			case 12:
				b.mu.Lock() // a subscriber is written to by others
				c.Write([]byte{typePingresp << 4, 0})
				b.mu.Unlock()
			case typePublish:
				topic := string(body[2 : 2+binary.BigEndian.Uint16(body)])
				payload, id, _ := cutPublish(first, version, body)
				b.mu.Lock()
				b.topics[topic]++
				b.payloads = append(b.payloads, bytes.Clone(payload))
				if b.keep == nil || !b.keep(n) {
					b.route(topic, payload, first>>1&3)
				}
				b.mu.Unlock()
				if id != 0 {
					if b.ack == nil {
						err = puback(c, id)
					} else {
						err = b.ack(c, n, id)
					}
					if err != nil {
						return
					}
				}
				n++
			}
			in = rest
		}
	}
}

func (b *broker) subscribe(c net.Conn, version byte, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs = append(b.subs, &sub{Conn: c, version: version, qos: body[len(body)-1]})
	suback := []byte{typeSuback << 4, 3, body[0], body[1]}
	if version == 5 {
		suback[1]++
		suback = append(suback, 0)
	}
	if b.refuse {
		c.Write(append(suback, 0x80))
		return
	}
	c.Write(append(suback, body[len(body)-1]))
}

// route sends a message to all subscribers. The caller holds b.mu.
func (b *broker) route(topic string, payload []byte, qos byte) {
	for _, s := range b.subs {
		s.id = s.id%60000 + 1
		s.Write(AppendPublish(nil, s.version, topic, payload, min(qos, s.qos), s.id, false))
	}
}

func small(b *broker) Load {
	return Load{Addr: b.Addr().String(), Clients: 3, Window: 20, Size: MinSize, QoS: 1, Duration: time.Minute, Messages: 1000, Topic: "plant/%d/temp", Version: 4}
}

func TestEveryMessageSentIsAcknowledgedOrReported(t *testing.T) {
	closed := errors.New("closed")
	cases := []struct {
		name            string
		ack             func(c net.Conn, n int, id uint16) error
		refused, silent bool
		broken          string
	}{
		{name: "acknowledged"},
		{name: "refused", refused: true, ack: func(c net.Conn, n int, id uint16) error {
			if n%10 == 3 {
				return puback(c, id, 0x97)
			}
			return puback(c, id, 0x10) // nobody subscribes: a success
		}},
		{name: "connection lost", silent: true, broken: "client 0: ", ack: func(c net.Conn, n int, id uint16) error {
			if n == 50 {
				return closed
			}
			return puback(c, id)
		}},
		{name: "unknown packet acknowledged", silent: true, broken: "packet 77, which is not outstanding", ack: func(c net.Conn, n int, id uint16) error {
			return puback(c, 77)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBroker(t, c.ack)
			r, err := Run(t.Context(), small(b))
			if err != nil {
				t.Fatal(err)
			}
			if c.silent && r.Sent != r.Acknowledged+r.Unacknowledged {
				t.Errorf("sent %d, but acknowledged %d + unacknowledged %d", r.Sent, r.Acknowledged, r.Unacknowledged)
			}
			if r.Refused > 0 != c.refused || r.Unacknowledged > 0 != c.silent || len(r.Errors) > 0 != (c.broken != "") {
				t.Errorf("got %+v", r)
			}
			if c.broken != "" && !strings.Contains(strings.Join(r.Errors, "\n"), c.broken) {
				t.Errorf("errors %q do not say %q", r.Errors, c.broken)
			}
			if failed := c.refused || c.silent; r.Failed() != failed {
				t.Errorf("Failed() = %v, want %v", r.Failed(), failed)
			}
			if c.name == "acknowledged" && (r.Acknowledged == 0 || r.PerSecond == 0 || r.P50 == 0 || r.P99 < r.P50 || r.Max < r.P99) {
				t.Errorf("figures make no sense: %+v", r)
			}
		})
	}
}

func TestTheRateIsHeldAndClientsShareIt(t *testing.T) {
	b := newBroker(t, nil)
	l := small(b)
	l.Rate, l.Messages, l.Window = 600, 300, 300 // no client waits for the broker, however slow that is
	began := time.Now()
	r, err := Run(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); r.Sent != 300 || took < 500*time.Millisecond {
		t.Errorf("sent %d in %v at 600/s", r.Sent, took)
	}
	for _, topic := range []string{"plant/0/temp", "plant/1/temp", "plant/2/temp"} {
		if n := b.topics[topic]; n != 100 {
			t.Errorf("%s had %d messages of %d", topic, n, r.Sent)
		}
	}
}

func TestAtQoS0TheBrokerHasReadWhatIsCounted(t *testing.T) {
	b := newBroker(t, nil)
	l := small(b)
	l.QoS = 0
	r, err := Run(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Acknowledged == 0 || r.Acknowledged != int64(len(b.payloads)) {
		t.Errorf("counted %d, the broker read %d", r.Acknowledged, len(b.payloads))
	}
}

func TestARunEndsWithItsLastMessage(t *testing.T) {
	for _, rate := range []int{0, 20000} {
		b := newBroker(t, nil)
		l := small(b)
		l.Messages, l.Rate = 777, rate
		r, err := Run(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		if r.Sent != 777 || r.Unacknowledged != 0 || len(b.payloads) != 777 {
			t.Errorf("rate %d: sent %d, unacknowledged %d, the broker read %d; want 777", rate, r.Sent, r.Unacknowledged, len(b.payloads))
		}
	}
}

func TestProgressIsReportedWhileTheLoadRuns(t *testing.T) {
	b := newBroker(t, nil)
	l := small(b)
	l.Messages, l.Warmup, l.Rate = 2*2000+100, 500*time.Millisecond, 2000
	var all []Progress
	l.Progress = func(p Progress) { all = append(all, p) }
	if _, err := Run(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("nothing was told in two seconds")
	}
	var last Progress
	for _, p := range all {
		passed := p.Elapsed - last.Elapsed
		if most := 2000 * p.Elapsed.Seconds(); passed < time.Second || p.Sent <= last.Sent || float64(p.Sent) > most || p.PerSecond <= 0 || p.Warming {
			t.Errorf("%+v, then %+v", last, p)
		}
		last = p
	}
}

func TestAnEndedContextEndsTheRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := newBroker(t, func(c net.Conn, n int, id uint16) error {
		if n == 100 {
			cancel()
		}
		return puback(c, id)
	})
	l := small(b)
	l.Duration, l.Messages = time.Hour, 0
	r, err := Run(ctx, l)
	if err != nil || r.Acknowledged == 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestReadingsAreJSONOfTheAskedSizeAndOneInAHundredIsHot(t *testing.T) {
	noise := newNoise()
	for _, size := range []int{120, 121, 128, 129, 130, 1000, 16384} {
		r, err := newReadings(7, size, noise)
		if err != nil {
			t.Fatal(err)
		}
		hot := 0
		n := 2000
		if size > 1000 {
			n = 200
		}
		for i := range n {
			r.next(1763716000000 + int64(i))
			var v struct {
				Device                          string
				Temperature, Humidity, Pressure float64
				Seq, TS                         int64
			}
			if err := json.Unmarshal(r.payload, &v); err != nil {
				t.Fatalf("size %d, reading %d: %v: %s", size, i, err, r.payload)
			}
			if len(r.payload) != size || v.Device != "sensor-00000007" || v.Seq != 1000000000+int64(i) || v.TS != 1763716000000+int64(i) ||
				v.Humidity < 30 || v.Humidity > 70 || v.Pressure < 1010 || v.Pressure > 1017 || v.Temperature < 18 {
				t.Fatalf("size %d, reading %d: %s", size, i, r.payload)
			}
			if v.Temperature > 80 {
				hot++
			}
		}
		if hot != n/HotEvery {
			t.Errorf("size %d: %d hot readings of %d", size, hot, n)
		}
	}
	if _, err := newReadings(0, MinSize-1, nil); err == nil {
		t.Error("a payload too small for a reading was accepted")
	}
}

func TestQuantilesAreWithinOnePerCent(t *testing.T) {
	var l Latencies
	for i := 1; i <= 100000; i++ {
		l.Add(time.Duration(i)*time.Microsecond, 1)
	}
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		got, want := l.Quantile(q), time.Duration(q*100000)*time.Microsecond
		if d := float64(got-want) / float64(want); d > 0.01 || d < -0.01 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if l.Max() != 100*time.Millisecond || l.Quantile(1) > l.Max() {
		t.Errorf("max %v, quantile 1 %v", l.Max(), l.Quantile(1))
	}
	var none Latencies
	if none.Quantile(0.5) != 0 {
		t.Error("no durations have a median")
	}
	for v := uint64(1); v < 1<<45; v = v*5/4 + 1 {
		m := float64(middle(bucket(v)))
		if d := m/float64(v) - 1; d > 1.0/128 || d < -1.0/128 {
			t.Fatalf("bucket of %d has its middle at %v", v, m)
		}
	}
}

func TestTheMedianRatioIsOfThePairs(t *testing.T) {
	pairs := func(r ...float64) (p []Pair) {
		for _, x := range r {
			p = append(p, Pair{Ratio: x})
		}
		return p
	}
	for want, p := range map[float64][]Pair{0: nil, 2: pairs(3, 2, 1), 2.5: pairs(4, 1, 3, 2)} {
		if got := MedianRatio(p); got != want {
			t.Errorf("median ratio %v, want %v", got, want)
		}
	}
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	good := Load{Addr: "x:1", Clients: 1, Window: 1, Size: 120, QoS: 1, Duration: 1, Topic: "a/%d", Version: 5}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Load){
		"address": func(l *Load) { l.Addr = "" }, "clients": func(l *Load) { l.Clients = 0 }, "window": func(l *Load) { l.Window = 1 << 20 },
		"size": func(l *Load) { l.Size = 10 }, "qos": func(l *Load) { l.QoS = 2 }, "rate": func(l *Load) { l.Rate = -1 },
		"duration": func(l *Load) { l.Duration = 0 }, "version": func(l *Load) { l.Version = 3 },
		"wildcard": func(l *Load) { l.Topic = "a/+" }, "subscribers": func(l *Load) { l.Subscribers = -1 }, "subscribers' QoS": func(l *Load) { l.SubQoS = 2 },
		"half a level": func(l *Load) { l.Subscribers, l.Topic = 1, "a/b%d" },
		"verb":         func(l *Load) { l.Topic = "a/%s" }, "verbs": func(l *Load) { l.Topic = "%d/%d" },
	} {
		l := good
		change(&l)
		if l.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPacketsAreReadAsTheyWereWritten(t *testing.T) {
	payload := bytes.Repeat([]byte("x"), 300)
	b := AppendConnect(nil, Login{ClientID: "c", Username: "u", Password: "p", Version: 5, Keep: true})
	b = AppendPublish(b, 5, "a/b", payload, 1, 513, true)
	b = AppendPublish(b, 4, "a/b", nil, 0, 9, false)
	var firsts []byte
	for {
		first, body, rest, ok, err := NextPacket(b)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		firsts = append(firsts, first)
		if first == 0x3A && !bytes.Equal(body, append([]byte("\x00\x03a/b\x02\x01\x00"), payload...)) {
			t.Errorf("PUBLISH body % x", body[:12])
		}
		b = rest
	}
	if diff := cmp.Diff([]byte{0x10, 0x3A, 0x30}, firsts); diff != "" || len(b) != 0 {
		t.Errorf("packets (-want +got):\n%s and %d bytes more", diff, len(b))
	}
}

func FuzzNextPacket(f *testing.F) {
	f.Add([]byte{0x40, 2, 0, 1, 0xD0, 0})
	f.Add([]byte{0x40, 0x80, 0x80, 0x80, 0x80, 1})
	f.Add(AppendPublish(nil, 5, "t", []byte("p"), 1, 1, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			_, body, rest, ok, err := NextPacket(b)
			if err != nil || !ok {
				return
			}
			if len(rest)+len(body)+2 > len(b) {
				t.Fatal("a packet is longer than what it was read from")
			}
			ParseAck(body)
			b = rest
		}
	})
}

func FuzzAPublish(f *testing.F) {
	f.Add(byte(0x32), byte(5), []byte("\x00\x01a\x00\x07\x00payload"))
	f.Add(byte(0x30), byte(4), []byte("\xff\xff"))
	f.Add(byte(0x30), byte(5), []byte("\x00\x00\xff\xff\xff\x7f"))
	f.Fuzz(func(t *testing.T, first, version byte, body []byte) {
		payload, _, err := cutPublish(first, version, body)
		if err == nil && len(payload) > len(body)-2 {
			t.Fatal("a payload is longer than its packet")
		}
		readReading(payload)
	})
}

func TestAFloorIsMeasuredAndItsFileRemoved(t *testing.T) {
	dir := t.TempDir()
	l, err := Syncs(t.Context(), dir, 20)
	if err != nil || l.Quantile(0.5) <= 0 {
		t.Errorf("median %v, %v", l.Quantile(0.5), err)
	}
	if _, err := Syncs(t.Context(), dir+"/absent", 1); err == nil {
		t.Error("an absent directory was measured")
	}
}
