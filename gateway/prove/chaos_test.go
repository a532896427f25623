//go:build prove

package prove

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// poisonEvery makes some messages of a publisher poison.
const poisonEvery = 1009

// TestChaosLeavesALedgerThatEqualsAnIndependentCount lets everything go wrong
// that the ledger has to survive, in an order that the seed decides, and then
// compares it with what the publishers and the cloud counted. HOLDFAST_SEED
// repeats a run's decisions.
func TestChaosLeavesALedgerThatEqualsAnIndependentCount(t *testing.T) {
	length, seed := 3*time.Minute, rand.Uint64()
	if long() {
		length = 30 * time.Minute
	}
	if text := os.Getenv("HOLDFAST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	k := &chaos{t: t, rand: rand.New(rand.NewPCG(seed, 0)), names: []string{"cloud"}, live: []string{"cloud"}, done: map[string]int{}}
	k.disk = newDisk(t, 1536)
	k.cloud = newCloud(t)
	if err := k.cloud.up(); err != nil {
		t.Fatal(err)
	}
	k.gateway = newGateway(t, filepath.Join(k.disk.path, "store"), k.config())
	k.gateway.mustStart(t)
	k.fleet = publish(6, func(i int) *publisher {
		return &publisher{addr: k.gateway.mqtt, number: i, window: 50, rate: 200, version: byte(4 + i%2), poison: poisonEvery + i}
	})
	for begin := time.Now(); time.Since(begin) < length; {
		time.Sleep(time.Duration(200+k.rand.IntN(1500)) * time.Millisecond)
		k.act()
	}
	k.calm()
	k.recount()
}

type chaos struct {
	t       *testing.T
	rand    *rand.Rand
	disk    *disk
	cloud   *cloud
	gateway *process
	fleet   *fleet
	names   []string // of all destinations that there have ever been
	live    []string // of those that are configured
	limit   int      // of a rule that is changed
	done    map[string]int
}

// config is the configuration as it is now.
func (k *chaos) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, `
streams: {events: {max: 600MiB, keep: 24h}, alerts: {max: 64MiB, keep: 24h}, changing: {max: 64MiB, keep: 24h}, dead: {max: 64MiB, keep: 24h}}
rules:
  - {name: hot, from: plant/+/temp, where: "temperature > 80", emit: {stream: alerts, topic: alerts/hot}}
  - {name: changing, from: plant/+/temp, where: "temperature < %d", emit: {stream: changing, topic: alerts/cold}}
destinations:
`, k.limit)
	for _, name := range k.live {
		fmt.Fprintf(&b, "  %s: {type: http, url: %q, from: [events, alerts], start: oldest, timeout: 2s, batch: {events: %d, bytes: 256KiB, linger: 50ms}}\n",
			name, k.cloud.url(name), []int{50, 300, 1000}[k.rand.IntN(3)])
	}
	return b.String()
}

// act makes something go wrong, or right again.
func (k *chaos) act() {
	k.t.Helper()
	k.cloud.changeMood(k.rand)
	act := []struct {
		name string
		do   func()
	}{
		{"kill", func() { k.gateway.kill(); k.gateway.mustStart(k.t) }},
		{"stop", func() { k.gateway.mustStop(k.t); k.gateway.mustStart(k.t) }},
		{"cloud down", func() { k.cloud.down() }},
		{"cloud up", func() { k.up() }},
		{"reload", func() { k.limit = k.rand.IntN(40); k.reload() }},
		{"rename", k.rename},
		{"broken configuration", k.breakConfig},
		{"disk full", k.fill},
		{"clients gone", func() {
			for _, p := range k.fleet.publishers {
				p.flap.Store(k.rand.IntN(2) == 0)
			}
		}},
	}[k.rand.IntN(9)]
	k.done[act.name]++
	act.do()
}

func (k *chaos) up() {
	if err := k.cloud.up(); err != nil {
		k.t.Fatal(err)
	}
}

// reload applies the configuration as it is now, without a restart.
func (k *chaos) reload() {
	k.t.Helper()
	if err := k.gateway.configure(k.config()); err != nil {
		k.t.Fatal(err)
	}
	k.gateway.cmd.Process.Signal(syscall.SIGHUP)
}

// rename gives a destination another name, which may be one of before, and
// leaves or adds one at times.
func (k *chaos) rename() {
	var name string
	if len(k.names) < 5 {
		name = fmt.Sprintf("cloud-%d", len(k.names))
		k.names = append(k.names, name)
	} else {
		name = k.names[k.rand.IntN(len(k.names))]
	}
	if !slices.Contains(k.live, name) {
		if len(k.live) < 2 && k.rand.IntN(3) == 0 {
			k.live = append(k.live, name)
		} else {
			k.live[k.rand.IntN(len(k.live))] = name
		}
	}
	k.reload()
}

// breakConfig shows the gateway a configuration with a mistake, which it must
// refuse.
func (k *chaos) breakConfig() {
	k.t.Helper()
	if err := k.gateway.configure(k.config() + "nonsense: {}\n"); err != nil {
		k.t.Fatal(err)
	}
	out, err := exec.Command(k.gateway.bin, "reload", "--config", k.gateway.configPath()).CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		k.t.Fatalf("holdfast reload: %v, not that the configuration has a mistake\n%s", err, out)
	}
	if err := k.gateway.configure(k.config()); err != nil {
		k.t.Fatal(err)
	}
}

// fill takes all space of the disk, and kills the gateway on it at times.
func (k *chaos) fill() {
	k.t.Helper()
	filler := filepath.Join(k.disk.path, "filler")
	fill(k.t, filler)
	time.Sleep(time.Duration(k.rand.IntN(1000)) * time.Millisecond)
	if k.rand.IntN(2) == 0 {
		k.gateway.kill()
		k.gateway.mustStart(k.t)
	}
	if err := os.Remove(filler); err != nil {
		k.t.Fatal(err)
	}
}

// calm lets everything work, with all destinations there have ever been, until
// nothing is under way.
func (k *chaos) calm() {
	k.t.Helper()
	k.cloud.set(mood{})
	k.up()
	if err := k.fleet.finish(time.Minute); err != nil {
		k.t.Fatal(err)
	}
	k.live = k.names
	if err := k.gateway.configure(k.config()); err != nil {
		k.t.Fatal(err)
	}
	k.gateway.kill()
	k.gateway.mustStart(k.t)
	waitForRules(k.t, k.gateway, time.Minute)
	waitForLag0(k.t, k.gateway, 3*time.Minute)
}

// recount compares the ledger with what publishers and cloud know.
func (k *chaos) recount() {
	t, c := k.t, k.cloud
	t.Helper()
	k.gateway.checkLedgers(t)
	st := k.gateway.status(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	appended, dead := map[string]uint64{}, uint64(0)
	for _, s := range st.Streams {
		appended[s.Name] = s.Appended
		if s.Dropped > 0 || s.Damaged > 0 {
			t.Errorf("stream %s has dropped %d and damaged %d events", s.Name, s.Dropped, s.Damaged)
		}
	}
	ledgers := 0
	for _, d := range st.Destinations {
		if d.Stream != "events" && d.Stream != "alerts" {
			continue
		}
		ledgers++
		name := d.Name + "/" + d.Stream
		taken, refused := c.taken[name].count(), c.poison[name].count()
		l := d.Ledger
		if l.Appended != appended[d.Stream] || l.Delivered != taken || l.Dead != refused ||
			l.Dropped+l.Damaged+l.Expired+l.Filtered+l.SkippedAtStart+l.Pending != 0 {
			t.Errorf("%s: %d events were appended, the cloud took %d and refused %d; the ledger says %+v", name, appended[d.Stream], taken, refused, l)
		}
		dead += l.Dead
	}
	if want := 2 * len(k.names); ledgers != want {
		t.Errorf("there are %d ledgers, not %d: %+v", ledgers, want, st.Destinations)
	}
	if appended["dead"] != dead {
		t.Errorf("%d dead letters were appended, the ledgers say %d", appended["dead"], dead)
	}
	for _, code := range []int{http.StatusBadRequest, http.StatusUnprocessableEntity} {
		if c.alone[code] == 0 {
			t.Errorf("no event was refused for good with %d, so the run shows nothing about it", code)
		}
	}
	if n := uint64(len(c.hot)); appended["alerts"] != n {
		t.Errorf("%d events are hot, %d alerts were raised", n, appended["alerts"])
	}
	lost := 0
	for _, p := range k.fleet.publishers {
		for n, acked := range p.acked {
			if _, there := c.messages[[2]int{p.number, n}]; acked && !there {
				lost++
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged messages are nowhere", lost, k.fleet.acked())
	}
	for _, bad := range c.bad {
		t.Errorf("the cloud could not read an event: %s", bad)
	}
	var acts []string
	for _, name := range slices.Sorted(maps.Keys(k.done)) {
		acts = append(acts, fmt.Sprintf("%d × %s", k.done[name], name))
	}
	t.Logf("%s; answers %v", strings.Join(acts, ", "), c.answers)
	t.Logf("%d messages acknowledged, %d events, %d alerts, %d dead letters (%d refused with 400, %d with 422): %d ledgers equal the independent count",
		k.fleet.acked(), appended["events"], appended["alerts"], dead, c.alone[http.StatusBadRequest], c.alone[http.StatusUnprocessableEntity], ledgers)
}
