package broker

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"holdfast/gateway/event"
)

// nullLog completes every batch at once and keeps nothing.
func nullLog(o *Options) {
	o.Emit = func(_ Batch, done func(error)) error { done(nil); return nil }
}

var reading = `{"device":"pump-17","temperature":21.375,"humidity":48.2,"pressure":101325,"status":"ok","seq":12345,"fw":"1.4.2-beta"}`

// BenchmarkPublish is a publisher at QoS 1 on loopback with up to 500 messages
// in flight; everything runs in one process, the publisher included.
func BenchmarkPublish(b *testing.B) {
	for _, window := range []int{1, 500} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			br := start(b, newFakeLog(), nullLog)
			c := connect(b, br, v4, "bench")
			var burst []byte
			const step = 100
			for i := range step {
				burst = append(burst, pub{topic: "plant/line1/pump-17", payload: reading, qos: 1, id: uint16(i + 1)}.packet(v4)...)
			}
			one := burst[:len(burst)/step]
			acks := bufio.NewReaderSize(c, 64<<10)
			b.ReportAllocs()
			b.ResetTimer()
			if window == 1 {
				for range b.N {
					_, _ = c.Write(one)
					if _, err := acks.Discard(4); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			room := make(chan struct{}, window/step)
			done := make(chan error, 1)
			go func() {
				var err error
				for i := 0; i < b.N && err == nil; i += step {
					_, err = io.CopyN(io.Discard, acks, 4*step)
					<-room
				}
				done <- err
			}()
			for i := 0; i < b.N; i += step {
				room <- struct{}{}
				if _, err := c.Write(burst); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// pipe is a socket that delivers the same burst again and again, so that the
// intake can be measured without the kernel.
type pipe struct {
	net.Conn
	burst  []byte
	at     int
	left   int
	closed chan struct{}
}

func (p *pipe) Read(b []byte) (int, error) {
	if p.left <= 0 {
		<-p.closed
		return 0, io.EOF
	}
	n := copy(b, p.burst[p.at:])
	p.at = (p.at + n) % len(p.burst)
	p.left -= n
	return n, nil
}
func (p *pipe) Write(b []byte) (int, error)      { return len(b), nil }
func (p *pipe) SetReadDeadline(time.Time) error  { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) Close() error                     { return nil }

// BenchmarkIntake is the broker's own work for a published message: framing,
// parsing, the batch, and the acknowledgement.
func BenchmarkIntake(b *testing.B) {
	rules := Access{ACL: acl(b, "allow publish * other/#,plant/+/%c", "allow publish * plant/line1/pump-17", "deny publish * plant/secret/#")}
	for _, c := range []struct {
		name string
		v    version
		a    Access
	}{{"mqtt311", v4, Access{}}, {"mqtt5", v5, Access{}}, {"mqtt311/acl", v4, rules}} {
		v := c.v
		b.Run(c.name, func(b *testing.B) {
			br, err := New(Options{Access: c.a, Emit: func(_ Batch, done func(error)) error { done(nil); return nil }})
			if err != nil {
				b.Fatal(err)
			}
			var burst []byte
			for i := range 200 {
				burst = append(burst, pub{topic: "plant/line1/pump-17", payload: reading, qos: 1, id: uint16(i + 1)}.packet(v)...)
			}
			p := &pipe{burst: burst, left: len(burst) / 200 * b.N}
			c := newConn(br, p)
			c.connected, c.serving, c.v5 = true, true, bool(v)
			c.id = "bench"
			c.session = newSession(br, "bench", "")
			b.ReportAllocs()
			b.ResetTimer()
			for p.left > 0 {
				if err := c.fill(); err != nil {
					b.Fatal(err)
				}
				if err := c.take(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRoute(b *testing.B) {
	for _, subscribers := range []string{"none", "others", "one"} {
		b.Run("subscribers="+subscribers, func(b *testing.B) {
			br := start(b, newFakeLog(), nullLog)
			c := connect(b, br, v4, "sub")
			switch subscribers {
			case "others":
				c.subscribe(filter{"other/#", 0})
			case "one":
				c.subscribe(filter{"plant/#", 0})
			}
			go io.Copy(io.Discard, c)
			var events []event.Event
			for i := range 5000 {
				events = append(events, ev(fmt.Sprintf("plant/line%d/pump", i%100), reading, 1))
			}
			b.ReportAllocs()
			b.ResetTimer()
			feed := br.feeds()[0]
			for i := 0; i < b.N; i += len(events) {
				for k := range events {
					events[k].Offset = uint64(i + k + 1)
				}
				feed.Route(events)
			}
		})
	}
}

// TestAnIdleConnectionIsCheap keeps the memory of many quiet devices in bounds.
func TestAnIdleConnectionIsCheap(t *testing.T) {
	n := 500
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n = int(min(uint64(n), limit.Cur/4)) // two for each connection, and some to spare
	b := start(t, newFakeLog())
	before := heap()
	for i := range n {
		nc, err := net.Dial("tcp", b.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = nc.Write(connectPacket(connectOptions{id: fmt.Sprint("idle", i)}))
		if _, err := io.ReadFull(nc, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	each := (heap() - before) / int64(n)
	t.Logf("%d bytes of heap and stack a connection, the client's end included", each)
	if each > 32<<10 {
		t.Errorf("%d bytes a connection, want at most 32 KiB", each)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one only finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
