//go:build prove

package prove

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"holdfast/gateway/bench"
)

// counter is an HTTP receiver that keeps which offsets of the stream events it
// has answered 200 to, and nothing of them.
type counter struct {
	mu      sync.Mutex
	seen    map[uint64]bool
	repeats int
	lowest  uint64
	highest uint64
	bad     string
}

func (c *counter) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	lines := json.NewDecoder(req.Body)
	var batch []uint64
	for lines.More() {
		var i struct {
			Stream string
			Offset uint64
		}
		if err := lines.Decode(&i); err != nil || i.Stream != "events" {
			c.mu.Lock()
			c.bad = i.Stream
			if err != nil {
				c.bad = err.Error()
			}
			c.mu.Unlock()
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		batch = append(batch, i.Offset)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range batch {
		if c.seen[o] {
			c.repeats++
		}
		c.seen[o] = true
		if c.lowest == 0 || o < c.lowest {
			c.lowest = o
		}
		c.highest = max(c.highest, o)
	}
}

// The cloud is away for so long that a stream overflows many times over. The
// disk stays within its bound, memory does not grow, every event that was
// dropped is counted, and nothing of it all is left after the drain.
func TestALongOutageCostsTheOldestEventsOnlyAndTheirNumberIsExact(t *testing.T) {
	total, limit, name := int64(300<<20), int64(64<<20), "64MiB"
	if long() {
		total, limit, name = 2<<30, 512<<20, "512MiB"
	}
	const size = 4 << 10
	bound := limit*5/4 + 64<<20
	r := &counter{seen: map[uint64]bool{}}
	addr := freeAddr()
	g := newGateway(t, "", `
streams: {events: {max: `+name+`, keep: 0s}}
destinations:
  cloud: {type: http, url: "http://`+addr+`/", from: [events], start: oldest, compression: none, batch: {events: 1000, bytes: 1MiB, linger: 10ms}}
`)
	g.mustStart(t)
	highest := peak(50*time.Millisecond, func() int64 { return usage(g.store) })
	rss := func() int64 { n, _ := g.rssAnon(); return n }
	load := func(bytes int64, id string) (bench.Result, int64) {
		t.Helper()
		most := peak(50*time.Millisecond, rss)
		res, err := bench.Run(t.Context(), bench.Load{Addr: g.mqtt, Clients: 4, Window: 64, Size: size, QoS: 1,
			Duration: 10 * time.Minute, Messages: bytes / size, Topic: "vib/%d", ClientID: id, Version: 5})
		if err != nil {
			t.Fatal(err)
		}
		if res.Failed() || res.Sent < bytes/size {
			t.Fatalf("%d of %d messages sent, %d refused, %d unacknowledged: %v", res.Sent, bytes/size, res.Refused, res.Unacknowledged, res.Errors)
		}
		return res, most()
	}
	// The stream is full after the first part; from then on nothing may grow.
	first, before := load(2*limit, "fill-")
	second, during := load(total-2*limit, "flow-")
	if during > before+16<<20 {
		t.Errorf("anonymous memory grew from %d to %d MiB", before>>20, during>>20)
	}
	sent := uint64(first.Sent + second.Sent)
	find := func() (dropped, pending, appended, low uint64) {
		s := g.status(t)
		for _, x := range s.Streams {
			if x.Name == "events" {
				low = x.First
				if x.Dropped != x.First-1 {
					t.Errorf("the stream begins at %d and counts %d dropped", x.First, x.Dropped)
				}
			}
		}
		l := s.Destinations[0].Ledger
		return l.Dropped, l.Pending, l.Appended, low
	}
	g.checkLedgers(t)
	// What is over the limit goes within a second of the last commit.
	var dropped uint64
	for same := 0; same < 3; time.Sleep(time.Second) {
		d, pending, appended, low := find()
		if appended != sent || d != low-1 || pending != appended-d {
			t.Fatalf("of %d messages: appended %d, dropped %d, pending %d, the stream begins at %d", sent, appended, d, pending, low)
		}
		if same++; d != dropped {
			dropped, same = d, 0
		}
	}
	if dropped == 0 {
		t.Fatal("nothing was dropped: the proof proves nothing")
	}

	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: r}
	go server.Serve(l)
	defer server.Close()
	begin := time.Now()
	eventually(t, 5*time.Minute, func() bool { return g.status(t).Destinations[0].Lag == 0 }, "the backlog is delivered")
	drained := time.Now()
	eventually(t, time.Minute, func() bool { return usage(g.store) < 64e6 }, "the store gives its space back: it takes %d MiB", usage(g.store)>>20)
	freed := time.Since(drained)
	top := highest()
	if top > bound {
		t.Errorf("the store took up to %d MiB of disk, more than %d MiB", top>>20, bound>>20)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	s := g.status(t)
	ledger := s.Destinations[0].Ledger
	// What was under way when the outage began, four requests of at most 2000
	// events, was dropped from the log, and is delivered all the same: the
	// ledger takes that back.
	late, kept := uint64(0), uint64(0)
	for o := range r.seen {
		if o <= dropped {
			late++
		} else {
			kept++
		}
	}
	if r.bad != "" || late > 4*2000 || kept != sent-dropped || r.highest != sent {
		t.Errorf("sent %d, dropped %d; the cloud has %d from %d to %d, of these %d that were dropped (%s)", sent, dropped, len(r.seen), r.lowest, r.highest, late, r.bad)
	}
	if got := uint64(len(r.seen)); ledger.Delivered != got || ledger.Dropped != sent-got || ledger.Appended != sent {
		t.Errorf("sent %d, the cloud has %d, and the ledger says %+v", sent, got, ledger)
	}
	g.checkLedgers(t)
	out := command(t, g.bin, "status", "--config", g.configPath(), "--verify")
	if after := rss(); after > before+16<<20 {
		t.Errorf("after the drain anonymous memory is %d MiB, it was %d", after>>20, before>>20)
	}
	t.Logf("%d MiB into a stream of %d MiB while the cloud was away: at most %d MiB of disk (bound %d), %d of %d events dropped and counted (%d of them delivered late), RssAnon at most %d MiB before and %d MiB after it was full; drained in %.1f s (%d repeated), %d MiB on disk %.1f s later",
		total>>20, limit>>20, top>>20, bound>>20, dropped, sent, late, before>>20, during>>20, drained.Sub(begin).Seconds(), r.repeats, usage(g.store)>>20, freed.Seconds())
	if os.Getenv("PROVE_VERBOSE") != "" {
		t.Log(out)
	}
}
