//go:build prove

package prove

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/gateway/bench"
)

// slack widens the bounds of the short form, which is too short to be exact
// on a machine that does other things. The long form has none.
func slack() float64 {
	if long() {
		return 1
	}
	return 0.8
}

func TestIngestIsFasterThanMosquittoInMemory(t *testing.T) {
	least := 1.6
	if long() { // on a machine that has nothing else to do
		least = 4
	}
	needTools(t, "mosquitto")
	g := newGateway(t, "", `
streams: {events: {max: 256MiB, keep: 24h}, alerts: {max: 16MiB, keep: 1h}}
rules:
  - {name: never, from: plant/+/temp, where: "temperature > 1000", emit: {stream: alerts, topic: alerts/never}}
`)
	g.mustStart(t)
	peer := startMosquitto(t)
	l := bench.Load{Addr: g.mqtt, Clients: 10, Window: 500, Size: bench.MinSize, QoS: 1, Duration: 2 * time.Second,
		Warmup: time.Second, Topic: "plant/%d/temp", ClientID: "prove-", Version: 4}
	pairs := 3
	if long() {
		l.Duration, pairs = 10*time.Second, 5
	}
	var sent uint64
	all, err := bench.Compare(t.Context(), l, peer, pairs, func(p bench.Pair) {
		t.Logf("holdfast %.0f/s (p99 %v)  mosquitto %.0f/s (p99 %v)  ratio %.2f", p.A.PerSecond, p.A.P99, p.B.PerSecond, p.B.P99, p.Ratio)
		sent += uint64(p.A.Sent)
		if p.A.Failed() || p.B.Failed() {
			t.Errorf("not all was acknowledged: %+v", p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range g.status(t).Streams {
		if s.Name == "events" && s.Appended != sent {
			t.Errorf("%d messages were acknowledged, the log has taken in %d", sent, s.Appended)
		}
	}
	ratio := bench.MedianRatio(all)
	t.Logf("median of %d pairs of %v: %.2f times mosquitto", pairs, l.Duration, ratio)
	if ratio < least*slack() {
		t.Errorf("%.2f times mosquitto, less than %.2f", ratio, least*slack())
	}
}

func TestOneMessageInFlightIsAcknowledgedSoonAfterItsSync(t *testing.T) {
	const most = 3.0
	g := newGateway(t, "", `
streams: {events: {max: 256MiB, keep: 24h}, panes: {max: 16MiB, keep: 1h}}
rules:`+windowRule)
	g.mustStart(t)
	l := bench.Load{Addr: g.mqtt, Clients: 1, Window: 1, Size: bench.MinSize, QoS: 1, Duration: 2 * time.Second,
		Warmup: 500 * time.Millisecond, Topic: "plant/%d/temp", ClientID: "prove-", Version: 4}
	if long() {
		l.Duration = 10 * time.Second
	}
	floor := func() time.Duration {
		t.Helper()
		s, err := bench.Syncs(t.Context(), g.dir, 2000)
		if err != nil {
			t.Fatal(err)
		}
		return s.Quantile(0.5)
	}
	before := floor()
	res, err := bench.Run(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	after := floor()
	bare := (before + after) / 2
	ratio := float64(res.P50) / float64(bare)
	t.Logf("one in flight: median acknowledgement %v, p99 %v; bare write and fdatasync %v: %.2f times", res.P50, res.P99, bare, ratio)
	if res.Failed() {
		t.Errorf("not all was acknowledged: %+v", res)
	}
	if ratio > most/slack() {
		t.Errorf("%.2f times a bare fdatasync, more than %.2f", ratio, most/slack())
	}
}

func TestAFilterRuleCostsLittle(t *testing.T) {
	const most = 6 * time.Microsecond
	r := newReceiver(t)
	if err := r.up(); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, "", `
streams: {events: {max: 256MiB, keep: 24h}, alerts: {max: 64MiB, keep: 1h}}
rules:
  - {name: hot, from: plant/+/temp, where: "temperature > 80", emit: {stream: alerts, topic: alerts/hot}}
destinations:
  cloud: {type: http, url: "`+r.url()+`", from: [alerts], start: oldest, batch: {events: 500, bytes: 256KiB, linger: 200ms}}
`)
	g.mustStart(t)
	l := bench.Load{Addr: g.mqtt, Clients: 10, Window: 500, Size: bench.MinSize, QoS: 1, Duration: 4 * time.Second,
		Topic: "plant/%d/temp", ClientID: "prove-", Version: 4}
	if long() {
		l.Duration = 15 * time.Second
	}
	var sent int64
	for _, rate := range []int{0, 20000} {
		l.Rate = rate
		before := g.cpu(t)
		res, err := bench.Run(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		sent += res.Sent
		waitForLag0(t, g, 30*time.Second)
		each := (g.cpu(t) - before) / time.Duration(res.Sent)
		load := "saturated"
		if rate > 0 {
			load = "paced"
		}
		t.Logf("%s, %.0f events/s, 1 %% pass the rule to an HTTP destination: %.1f µs of gateway CPU for each event", load, res.PerSecond, float64(each)/1e3)
		if res.Failed() {
			t.Errorf("not all was acknowledged: %+v", res)
		}
		if rate == 0 && float64(each) > float64(most)/slack() {
			t.Errorf("%v of CPU for each event, more than %v", each, time.Duration(float64(most)/slack()))
		}
	}
	_, alerts := r.snapshot()
	if want := int(sent) / bench.HotEvery; len(alerts) < want-2*l.Clients || len(alerts) > want+2*l.Clients {
		t.Errorf("%d alerts of %d events arrived, want about %d", len(alerts), sent, want)
	}
}

// startMosquitto starts mosquitto as fast as it can be, in memory only, and
// returns its address.
func startMosquitto(t testing.TB) string {
	t.Helper()
	addr := freeAddr()
	_, port, _ := strings.Cut(addr, ":")
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_type error\n", port)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mosquitto", "-c", conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	probe := &process{mqtt: addr}
	eventually(t, 10*time.Second, func() bool { return probe.answers() == nil }, "mosquitto serves")
	return addr
}
