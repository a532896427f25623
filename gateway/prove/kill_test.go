//go:build prove

package prove

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestKill9LosesNothingAcknowledgedAndWindowsComeOutAsIfNothingHadHappened(t *testing.T) {
	t.Run("50 kills", func(t *testing.T) { proveKills(t, 50, 3000, 100) })
	t.Run("at full speed", func(t *testing.T) { proveKills(t, 5, 0, 500) })
}

// proveKills kills the gateway so many times under the load of four publishers
// with a rate (0 for as fast as they can) and window each.
func proveKills(t *testing.T, kills, rate, window int) {
	r := newReceiver(t)
	if err := r.up(); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, "", `
streams: {events: {max: 1GiB, keep: 24h}, panes: {max: 64MiB, keep: 24h}}
rules:`+windowRule+`
destinations:
  cloud: {type: http, url: "`+r.url()+`", from: [events, panes], start: oldest, compression: none, batch: {events: 2000, bytes: 1MiB, linger: 50ms}}
`)
	g.mustStart(t)
	begin := time.Now()
	f := publish(4, func(i int) *publisher {
		return &publisher{addr: g.mqtt, number: i, window: window, rate: rate, version: byte(4 + i%2)}
	})
	var starts []time.Duration
	for range kills {
		time.Sleep(50*time.Millisecond + rand.N(500*time.Millisecond))
		g.kill()
		starts = append(starts, g.mustStart(t))
	}
	if err := f.finish(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	loaded := time.Since(begin)
	waitForLag0(t, g, 90*time.Second)
	time.Sleep(paneSize + time.Second) // silence closes the last panes
	waitForLag0(t, g, 10*time.Second)

	if n, example := r.missing(f); n > 0 {
		t.Errorf("%d of %d acknowledged messages did not arrive, such as %s", n, f.acked(), example)
	}
	if n := f.disorder(); n > 0 {
		t.Errorf("%d messages were acknowledged out of order", n)
	}
	r.checkOrder(t)
	g.checkLedgers(t)
	arrivals, others := r.snapshot()
	panes := checkPanes(t, arrivals, others)
	lost := 0
	for _, p := range f.publishers {
		lost += p.lost
	}
	slices.Sort(starts)
	t.Logf("%d kills in %.0f s, starts in %v to %v, median %v, %d connections lost: %d messages acknowledged, %d arrived (%d deliveries), %d panes equal",
		kills, loaded.Seconds(), starts[0].Round(time.Millisecond), starts[kills-1].Round(time.Millisecond), starts[kills/2].Round(time.Millisecond), lost, f.acked(), r.distinct(), len(arrivals), panes)
}

// waitForLag0 waits until every destination has settled all there is.
func waitForLag0(t testing.TB, g *process, limit time.Duration) {
	t.Helper()
	var last status
	begin := time.Now()
	for time.Since(begin) < limit {
		last = g.status(t)
		behind := false
		for _, d := range last.Destinations {
			behind = behind || d.Lag > 0 || d.Ledger.Pending > 0
		}
		if !behind {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the destinations are not drained after %v: %+v", limit, last.Destinations)
}
