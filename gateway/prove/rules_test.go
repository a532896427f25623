//go:build prove

package prove

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/gateway/bench"
)

// ruleCost is the gateway's processor time for each event under a saturating
// load, until its rules have evaluated all of them.
func ruleCost(t *testing.T, clients, window int, rules string) time.Duration {
	t.Helper()
	g := newGateway(t, "", "streams: {events: {max: 1GiB, keep: 24h}, out: {max: 64MiB, keep: 1h}}\n"+rules)
	g.mustStart(t)
	l := bench.Load{Addr: g.mqtt, Clients: clients, Window: window, Size: bench.MinSize, QoS: 1, Duration: 3 * time.Second,
		Topic: "plant/%d/temp", ClientID: "prove-", Version: 4}
	if long() {
		l.Duration = 15 * time.Second
	}
	before := g.cpu(t)
	res, err := bench.Run(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	waitForRules(t, g, 2*time.Minute)
	each := (g.cpu(t) - before) / time.Duration(res.Sent)
	if res.Failed() {
		t.Errorf("not all was acknowledged: %+v", res)
	}
	st := g.status(t)
	for _, s := range st.Streams {
		if s.Dropped+s.Damaged > 0 {
			t.Errorf("stream %s lost events: %+v", s.Name, s)
		}
	}
	var matched uint64
	for _, r := range st.Rules {
		matched = max(matched, r.Matched)
		if r.Failed > 0 {
			t.Errorf("rule %s failed on %d events", r.Name, r.Failed)
		}
	}
	if len(st.Rules) > 0 && len(st.Rules) <= 100 && clients == 10 && matched != uint64(res.Sent) {
		t.Errorf("%d messages were sent, a rule evaluated %d", res.Sent, matched)
	}
	g.mustStop(t)
	return each
}

// filterRules are n rules that pass nothing; each reads the topic that its
// number gives.
func filterRules(n int, topic func(int) string) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: r%d, from: %s, where: \"temperature > %d\", emit: {stream: out, topic: out/%d}}\n", i, topic(i), 1000+i, i)
	}
	return b.String()
}

const tenThousandKeys = `rules:
  - name: panes
    from: plant/#
    key: string(int(seq) %% 10000)
    window: {tumbling: %s}
    aggregate: {n: count(), avg: avg(temperature), low: min(temperature), high: max(temperature), spread: stddev(temperature)}
    emit: {stream: out, topic: "panes/{key}"}
`

func TestRulesCostLittleAndDropNothing(t *testing.T) {
	all := func(int) string { return "plant/+/temp" }
	bound := func(what string, each, most time.Duration) {
		t.Helper()
		t.Logf("%s: %.1f µs of gateway CPU for each event", what, float64(each)/1e3)
		if float64(each) > float64(most)/slack() {
			t.Errorf("%s: %v for each event, more than %v", what, each, most)
		}
	}
	t.Logf("no rule: %.1f µs of gateway CPU for each event", float64(ruleCost(t, 10, 500, ""))/1e3)
	bound("one filter rule", ruleCost(t, 10, 500, filterRules(1, all)), 5*time.Microsecond)
	bound("100 filter rules on one topic", ruleCost(t, 10, 500, filterRules(100, all)), 15*time.Microsecond)
	bound("a tumbling window of 10 s with 5 aggregates and 10,000 keys", ruleCost(t, 10, 500, fmt.Sprintf(tenThousandKeys, "10s")), 7*time.Microsecond)
}

func TestRulesCostNoMoreByTheThousand(t *testing.T) {
	all := func(int) string { return "plant/+/temp" }
	own := func(i int) string { return fmt.Sprintf("plant/%d/temp", i) }
	// The same load for both, in turns: the least of each is what disturbed it least.
	few, many := time.Hour, time.Hour
	for range 2 {
		few = min(few, ruleCost(t, 1000, 10, filterRules(3, all)))
		many = min(many, ruleCost(t, 1000, 10, filterRules(1000, own)))
	}
	t.Logf("1,000 clients with a topic each: %.1f µs for each event with 3 rules on all of them, %.1f µs with 1,000 rules on one each", float64(few)/1e3, float64(many)/1e3)
	if float64(many) > float64(few)*1.1/slack() {
		t.Errorf("1,000 rules on topics of their own cost %v for each event, 3 rules %v", many, few)
	}
}

func TestAWindowOverTenThousandKeysAddsLittleToWhatIsWritten(t *testing.T) {
	measure := func(t *testing.T, rules string) float64 {
		d := newDisk(t, 1024)
		g := newGateway(t, filepath.Join(d.path, "store"), "streams: {events: {max: 512MiB, keep: 24h}, out: {max: 64MiB, keep: 1h}}\n"+rules)
		g.mustStart(t)
		l := bench.Load{Addr: g.mqtt, Clients: 10, Window: 500, Size: bench.MinSize, QoS: 1, Rate: 20000, Duration: seconds(26, 120),
			Topic: "plant/%d/temp", ClientID: "prove-", Version: 4}
		before := d.written(t)
		res, err := bench.Run(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		waitForRules(t, g, time.Minute)
		g.mustStop(t)
		return float64(d.written(t)-before) / float64(res.Sent*int64(l.Size))
	}
	tries := 2
	if long() {
		tries = 1
	}
	// Both at the same time, each on a disk of its own: the machine is the same for
	// both. A compaction writes some megabytes every now and then, and in the short
	// form that is much if it falls into one of them: then both are measured again.
	for try := 1; ; try++ {
		var without, with float64
		t.Run("at once", func(t *testing.T) {
			t.Run("without", func(t *testing.T) { t.Parallel(); without = measure(t, "") })
			t.Run("with", func(t *testing.T) { t.Parallel(); with = measure(t, fmt.Sprintf(tenThousandKeys, "10s")) })
		})
		t.Logf("20,000 msg/s: %.3f bytes written for each byte of payload without a rule, %.3f with a window of 10 s over 10,000 keys: %+.0f %%", without, with, 100*(with/without-1))
		switch {
		case t.Failed() || with <= without*1.2:
			return
		case try == tries:
			t.Fatalf("the window adds %.0f %% to what is written, more than 20", 100*(with/without-1))
		}
	}
}
