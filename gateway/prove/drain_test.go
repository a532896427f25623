//go:build prove

package prove

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"holdfast/gateway/bench"
)

// drain is an HTTP server that counts the lines it is sent, and hands each
// body to look if that is set. It is as cheap as can be, for it shares the
// machine with the gateway.
type drain struct {
	addr   string
	server *http.Server
	look   func(body []byte, now time.Time)

	mu     sync.Mutex
	lines  int
	total  int // when it is reached, full is closed
	first  time.Time
	full   chan struct{}
	faults []string
}

func newDrain(t testing.TB, total int) *drain {
	d := &drain{addr: freeAddr(), total: total, full: make(chan struct{})}
	t.Cleanup(func() {
		if d.server != nil {
			d.server.Close()
		}
	})
	return d
}

func (d *drain) url() string { return "http://" + d.addr + "/" }

func (d *drain) up(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	d.server = &http.Server{Handler: d}
	go d.server.Serve(l)
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// ServeHTTP takes one batch.
func (d *drain) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	b := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(b)
	b.Reset()
	body := io.Reader(r.Body)
	var err error
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, err = gzip.NewReader(body)
	}
	if err == nil {
		_, err = b.ReadFrom(body)
	}
	now := time.Now()
	n := bytes.Count(b.Bytes(), []byte{'\n'})
	if d.look != nil {
		d.look(b.Bytes(), now)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.faults = append(d.faults, err.Error())
	}
	if d.lines == 0 {
		d.first = now
	}
	d.lines += n
	if d.lines >= d.total && d.lines-n < d.total {
		close(d.full)
	}
}

func TestABacklogOfAMillionEventsDrainsWhileLiveEventsArriveInTime(t *testing.T) {
	const total, least, live = 1_000_000, 150_000, 5000
	const latency = time.Second
	for _, compression := range []string{"none", "gzip"} {
		t.Run(compression, func(t *testing.T) {
			backlog := newDrain(t, total) // down
			var mu sync.Mutex
			var worst time.Duration
			var arrived int
			fresh := newDrain(t, 1<<62)
			fresh.look = func(body []byte, now time.Time) {
				for line := range bytes.Lines(body) {
					var i struct{ Time time.Time }
					if err := json.Unmarshal(line, &i); err != nil {
						t.Error(err)
					}
					mu.Lock()
					worst = max(worst, now.Sub(i.Time))
					arrived++
					mu.Unlock()
				}
			}
			fresh.up(t)
			g := newGateway(t, "", `
streams: {events: {max: 1GiB}, fresh: {max: 256MiB, topics: ["plant/#"]}}
destinations:
  backlog: {type: http, url: "`+backlog.url()+`", from: [events], start: oldest, retry: {min: 100ms, max: 500ms}, compression: `+compression+`}
  fresh: {type: http, url: "`+fresh.url()+`", from: [fresh], start: oldest}
`)
			g.mustStart(t)
			res, err := bench.Run(t.Context(), bench.Load{Addr: g.mqtt, Clients: 20, Window: 500, Size: 120, QoS: 1,
				Duration: time.Minute, Messages: total, Topic: "bulk/%d", ClientID: "prove-", Version: 4})
			if err != nil || res.Failed() || res.Sent < total {
				t.Fatalf("%d of %d messages stored: %v", res.Sent, total, err)
			}
			f := publish(1, func(int) *publisher {
				return &publisher{addr: g.mqtt, number: 1, window: 2000, rate: live, version: 4}
			})
			eventually(t, 20*time.Second, func() bool { mu.Lock(); defer mu.Unlock(); return arrived > live }, "live events arrive")
			time.Sleep(500 * time.Millisecond)
			mu.Lock()
			calm := worst
			worst, arrived = 0, 0
			mu.Unlock()
			profile := g.profile(t, 4*time.Second)
			cpu := g.cpu(t)
			memory := peak(20*time.Millisecond, func() int64 { n, _ := g.rssAnon(); return n })
			backlog.up(t)
			select {
			case <-backlog.full:
			case <-time.After(time.Minute):
				t.Fatalf("%d of %d events arrived in a minute", backlog.lines, total)
			}
			took := time.Since(backlog.first)
			cpu = g.cpu(t) - cpu
			anon := memory()
			mu.Lock()
			busy, during := worst, arrived
			mu.Unlock()
			profile()
			if err := f.finish(30 * time.Second); err != nil {
				t.Fatal(err)
			}
			waitForLag0(t, g, 20*time.Second)
			g.checkLedgers(t)
			if len(backlog.faults) > 0 || backlog.lines != total {
				t.Errorf("%d of %d events arrived, faults %v", backlog.lines, total, backlog.faults)
			}
			rate := total / took.Seconds()
			if rate < least*slack() {
				t.Errorf("%.0f events/s, want %d", rate, least)
			}
			if busy > latency {
				t.Errorf("a live event took %v during the drain, want %v at most", busy, latency)
			}
			t.Logf("%s: %d events drained in %.2f s: %.0f events/s, %.2f µs of the gateway's CPU each; %.0f live events/s beside it arrived within %v (%v before); %d MiB of anonymous memory",
				compression, total, took.Seconds(), rate, float64(cpu.Microseconds())/float64(total), float64(during)/took.Seconds(), busy.Round(time.Millisecond), calm.Round(time.Millisecond), anon>>20)
		})
	}
}

// profile records for so long what the gateway spends its time on, if
// PROVE_PROFILE names a file for that; the function waits for the end.
func (g *process) profile(t testing.TB, d time.Duration) (wait func()) {
	path := os.Getenv("PROVE_PROFILE")
	if path == "" {
		return func() {}
	}
	socket := g.status(t).Control
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	done := make(chan error, 1)
	go func() {
		resp, err := c.Get(fmt.Sprintf("http://gateway/debug/pprof/profile?seconds=%d", int(d.Seconds())))
		if err != nil {
			done <- err
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil {
			err = os.WriteFile(path, b, 0o644)
		}
		done <- err
	}()
	return func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
