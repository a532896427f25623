//go:build prove

package prove

import (
	"path/filepath"
	"testing"
	"time"

	"holdfast/gateway/bench"
)

// waitForRules waits until the outputs of all rules are on disk.
func waitForRules(t *testing.T, g *process, limit time.Duration) {
	t.Helper()
	eventually(t, limit, func() bool {
		for _, r := range g.status(t).Rules {
			if r.Processor.Lag > 0 {
				return false
			}
		}
		return true
	}, "the rules catch up")
}

func TestResourcesStayWithinWhatASmallDeviceHas(t *testing.T) {
	const memory, anonymous = 128 << 20, 64 << 20
	d := newDisk(t, 3072)
	procs, highest := memoryCgroup(t, memory)
	r := newReceiver(t) // down: everything stays stored
	g := newGateway(t, filepath.Join(d.path, "store"), `
streams: {events: {max: 1536MiB, keep: 24h}, alerts: {max: 16MiB, keep: 1h}}
rules:
  - {name: hot, from: plant/+/temp, where: "temperature > 80", emit: {stream: alerts, topic: alerts/hot}}
destinations:
  cloud: {type: http, url: "`+r.url()+`", from: [events, alerts], start: oldest}
`)
	g.cgroup = procs
	g.mustStart(t)
	load := bench.Load{Addr: g.mqtt, Clients: 10, Window: 500, Size: bench.MinSize, QoS: 1, Duration: 10 * time.Second,
		Topic: "plant/%d/temp", ClientID: "prove-", Version: 4}
	if long() {
		load.Duration = 30 * time.Second
	}
	run := func(t *testing.T, l bench.Load) bench.Result {
		t.Helper()
		if !g.alive() { // it failed a figure before; the others are still of interest
			g.mustStart(t)
		}
		res, err := bench.Run(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		if !g.alive() {
			t.Fatalf("the gateway ended under load: %v; the cgroup held at most %d MiB", g.err, highest()>>20)
		}
		if res.Failed() {
			t.Errorf("%d refused, %d unacknowledged: %v", res.Refused, res.Unacknowledged, res.Errors)
		}
		return res
	}
	// figure measures what the device is given during a load.
	figure := func(t *testing.T, l bench.Load) (res bench.Result, written int64, elapsed time.Duration) {
		t.Helper()
		before, begin := d.written(t), time.Now()
		res = run(t, l)
		time.Sleep(2 * time.Second)
		elapsed = time.Since(begin)
		return res, d.written(t) - before, elapsed
	}

	t.Run("writes when saturated", func(t *testing.T) {
		anon := peak(50*time.Millisecond, func() int64 { n, _ := g.rssAnon(); return n })
		defer func() { t.Logf("RssAnon at most %.1f MiB while saturated", float64(anon())/(1<<20)) }()
		before, begin := d.written(t), time.Now()
		res := run(t, load)
		waitForRules(t, g, 2*time.Minute) // what they still write belongs to this load
		time.Sleep(2 * time.Second)       // and what is written late
		written := d.written(t) - before
		t.Logf("the rules had caught up and all was written %.0f s after the load's begin", time.Since(begin).Seconds())
		ratio := float64(written) / float64(res.Sent*int64(load.Size))
		t.Logf("%.0f msg/s: %.2f bytes written to the device for each byte of payload", res.PerSecond, ratio)
		if ratio > 1.0 {
			t.Errorf("%.2f bytes are written for each byte of payload, more than 1.0", ratio)
		}
	})
	t.Run("writes at 100 messages a second", func(t *testing.T) {
		l := load
		l.Rate, l.Clients = 100, 5
		// Long enough to hold its share of the compactions, which write several
		// megabytes every few minutes.
		l.Duration = 45 * time.Second
		_, written, elapsed := figure(t, l)
		perSecond := float64(written) / elapsed.Seconds() / 1024
		t.Logf("100 msg/s: %.0f KiB/s written to the device", perSecond)
		if perSecond > 50*8 {
			t.Errorf("%.0f KiB/s are written to the device, more than %d", perSecond, 50*8)
		}
	})
	t.Run("memory with 1 GB stored at 20,000 messages a second", func(t *testing.T) {
		filler := load
		filler.Clients, filler.Window, filler.Size, filler.Messages, filler.Duration = 4, 32, 16<<10, 1<<30/(16<<10), time.Minute
		run(t, filler)
		if used := usage(g.store); used < 1<<30 {
			t.Fatalf("the store holds %d MiB, less than 1 GiB", used>>20)
		}
		anon := peak(50*time.Millisecond, func() int64 { n, _ := g.rssAnon(); return n })
		l := load
		l.Rate = 20000
		res := run(t, l)
		top := anon()
		t.Logf("%.0f msg/s with %d MiB stored under a limit of %d MiB: RssAnon at most %.1f MiB, median acknowledgement %v, p99 %v",
			res.PerSecond, usage(g.store)>>20, memory>>20, float64(top)/(1<<20), res.P50, res.P99)
		if top > anonymous {
			t.Errorf("RssAnon reached %.1f MiB, more than %d", float64(top)/(1<<20), anonymous>>20)
		}
		if res.PerSecond < 19900 {
			t.Errorf("%.0f msg/s were acknowledged, not 20000", res.PerSecond)
		}
	})
	t.Run("start after kill -9 with 1 GB stored", func(t *testing.T) {
		var slowest time.Duration
		for range 3 {
			stop := publish(1, func(int) *publisher {
				return &publisher{addr: g.mqtt, number: 99, window: 100, version: 4}
			})
			time.Sleep(300 * time.Millisecond)
			if !g.alive() {
				t.Errorf("the gateway ended: %v", g.err)
			}
			g.kill()
			stop.cancel()
			stop.wg.Wait()
			slowest = max(slowest, g.mustStart(t))
		}
		t.Logf("%d MiB stored: CONNACK at most %v after the start", usage(g.store)>>20, slowest.Round(time.Millisecond))
		if slowest > 500*time.Millisecond {
			t.Errorf("MQTT was served %v after the start, more than 500ms", slowest)
		}
	})
	if !g.alive() {
		t.Errorf("the gateway ended: %v\n%s", g.err, g.lastLog())
	}
}
