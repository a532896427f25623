//go:build prove

package gateway

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/rules"
	"holdfast/storage"
)

// everyState has every window, aggregate, function with a memory and timer.
const everyState = `
gateway: proof
store: {path: store}
mqtt: {listen: %q}
http: {listen: off}
streams: {events: {max: 1GiB}, out: {max: 256MiB, keep: 24h}, late: {max: 64MiB, keep: 24h}}
rules:
  - {name: tumbling, from: p/#, key: d, window: {tumbling: 500ms, grace: 50ms}, aggregate: {n: count(), hot: count_if(v > 50), sum: sum(v), avg: avg(v), lo: min(v), hi: max(v), sd: stddev(v), var: variance(v), med: median(v), p95: p95(v), p: 'percentile(v, 12.5)'}, emit: {stream: out, topic: "tumbling/{key}"}}
  - {name: hopping, from: p/#, key: d, window: {hopping: 600ms, hop: 200ms}, aggregate: {first: first(v), last: last(v), ids: distinct(n), up: increase(n), rate: rate(n), mean: time_avg(v)}, emit: {stream: out, topic: "hopping/{key}"}}
  - {name: sliding, from: p/a, window: {sliding: 300ms, max_rows: 5000}, aggregate: {n: count(), hi: max(v)}, having: int(n) %% 20 == 0, emit: {stream: out, topic: sliding}}
  - {name: session, from: p/pause, key: d, window: {session: 150ms}, aggregate: {n: count(), all: 'collect(n, 5)'}, emit: {stream: out, topic: "session/{key}"}}
  - {name: count, from: p/#, key: d, window: {count: 37, expire: 1s}, aggregate: {h: 'histogram(v, 10, 50, 90)', top: 'topk(v, 3)'}, emit: {stream: out, topic: "count/{key}"}}
  - {name: while, from: p/#, key: d, window: {while: v > 10, expire: 1s}, aggregate: {n: count(), hi: max(v)}, emit: {stream: out, topic: "while/{key}"}}
  - {name: bytime, from: p/#, key: d, time: {field: ts, unit: ms}, window: {tumbling: 400ms, grace: 300ms, idle: 500ms, early: 200ms, late: late}, aggregate: {n: count(), last: last(n), up: increase(n)}, emit: {stream: out, topic: "bytime/{key}"}}
  - {name: ordered, from: p/#, key: d, time: {field: ts, unit: ms}, window: {session: 100ms, grace: 500ms, idle: 300ms}, aggregate: {n: count(), mean: time_avg(v)}, emit: {stream: out, topic: "ordered/{key}"}}
  - {name: edges, from: p/#, key: d, where: 'rising(v > 70) || falling(v > 20) || changed(v > 99)', emit: {stream: out, topic: edges, fields: {d: d, n: n, prev: prev(v), change: change(v), c: counter(true), t: total(v)}}}
  - {name: levels, from: p/#, key: d, where: 'rising(hysteresis(v, 80, 30))', emit: {stream: out, topic: levels, fields: {d: d, n: n, c: counter(v > 90)}}}
  - {name: calm, from: p/#, key: d, where: 'throttle(v > 60, "700ms")', emit: {stream: out, topic: calm, fields: {n: n, b: 'debounce(v > 50, "20ms")'}}}
  - {name: twice, from: p/#, where: 'duplicate(int(n) %% 400, "5s") && int(n) %% 10 == 0', emit: {stream: out, topic: twice, fields: {n: n}}}
  - {name: lasts, from: p/#, key: d, where: v < 90, for: 40ms, emit: {stream: out, topic: lasts}}
  - {name: silent, from: p/pause, key: d, where: 'true', for: 300ms, emit: {stream: out, topic: silent, fields: {n: n}}}
  - {name: knows, from: p/a, where: v > 80, emit: {stream: out, topic: knows, fields: {other: 'latest("p/b", "v")'}}}
  - {name: each, from: {every: 100ms}, emit: {stream: out, topic: each, fields: {at: time, c: counter(true)}}}
  - {name: reads, from: {rule: levels}, key: d, window: {count: 5}, aggregate: {n: sum(n)}, emit: {stream: out, topic: "reads/{key}"}}
`

// gatewayProcess is the real holdfast.
type gatewayProcess struct {
	bin, config string
	cmd         *exec.Cmd
}

func (g *gatewayProcess) start(t *testing.T) {
	t.Helper()
	g.cmd = exec.Command(g.bin, "run", "--config", g.config)
	log, err := os.OpenFile(g.config+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	g.cmd.Stdout, g.cmd.Stderr = log, log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (g *gatewayProcess) end(s os.Signal) {
	_ = g.cmd.Process.Signal(s)
	_ = g.cmd.Wait()
}

func builtHoldfast(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("HOLDFAST_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "holdfast")
	if out, err := exec.Command("go", "build", "-o", path, "holdfast/cmd/holdfast").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// publishAlways publishes readings of three devices, some of them out of order by their
// own time, and of one that is silent now and then, until stop is closed.
func publishAlways(addr string, stop <-chan struct{}) (ended <-chan struct{}) {
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("load").SetConnectRetry(true).
		SetConnectRetryInterval(20 * time.Millisecond).SetMaxReconnectInterval(50 * time.Millisecond).SetCleanSession(false))
	c.Connect()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.Disconnect(100)
		r := rand.New(rand.NewPCG(6, 9))
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			for _, d := range []string{"a", "b", "c"} {
				ts := time.Now().Add(-time.Duration(r.IntN(500)) * time.Millisecond).UnixMilli()
				c.Publish("p/"+d, 1, false, fmt.Sprintf(`{"d":%q,"n":%d,"v":%d,"ts":%d}`, d, n, r.IntN(101), ts))
			}
			if n/100%3 == 0 && n%10 == 0 {
				c.Publish("p/pause", 1, false, fmt.Sprintf(`{"d":"pause","n":%d,"v":1,"ts":%d}`, n, time.Now().UnixMilli()))
			}
		}
	}()
	return done
}

// history is what the log says that rules were given.
type history struct {
	inputs  []storage.Input
	covered uint64
	streams map[string][]event.Event
}

// look takes in what the log holds, while no gateway has it open.
func (h *history) look(t *testing.T, cfg *Config) {
	t.Helper()
	log, err := storage.Open(storage.Options{Dir: cfg.Store.Path, Gateway: cfg.Gateway, Logger: slog.New(slog.DiscardHandler), Streams: streamOptions(cfg)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	_, covered, inputs, err := log.OpenProcessor(rules.EventsStream, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.covered = covered
	for _, in := range inputs {
		if n := len(h.inputs); n == 0 || h.inputs[n-1].Sequence < in.Sequence {
			if n > 0 && h.inputs[n-1].Sequence+1 != in.Sequence {
				t.Fatalf("the inputs between %d and %d were removed before anybody looked", h.inputs[n-1].Sequence, in.Sequence)
			}
			h.inputs = append(h.inputs, in)
		}
	}
	h.streams = map[string][]event.Event{}
	for _, name := range append(cfg.Rules.Outputs(), rules.EventsStream, streamDead) {
		r, next := log.Stream(name).Reader(false), uint64(1)
		for {
			all, err := r.Read(next, storage.ReadLimits{Events: 1000, Bytes: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			if len(all) == 0 {
				break
			}
			h.streams[name] = append(h.streams[name], slices.Clone(all)...)
			next = all[len(all)-1].Offset + 1
		}
	}
}

// again is an undisturbed run over the same log.
func (h *history) again(t *testing.T, set *rules.Set) (res rules.Result) {
	t.Helper()
	e := set.Engine(rules.EventsStream)
	inputs := h.inputs
	given := func(next uint64) {
		for ; len(inputs) > 0 && inputs[0].After <= next; inputs = inputs[1:] {
			var in rules.Input
			if len(inputs[0].Data) > 0 {
				if err := json.Unmarshal(inputs[0].Data, &in); err != nil {
					t.Fatal(err)
				}
			}
			in.Now = inputs[0].Now
			e.Apply(in, &res)
		}
	}
	for _, ev := range h.streams[rules.EventsStream] {
		if ev.Offset >= h.covered {
			break
		}
		given(ev.Offset)
		e.Step([]event.Event{ev}, &res)
	}
	given(h.covered)
	return res
}

// shown is all of an output that a user can see, but for its offset.
func shown(e *event.Event) string {
	after := uint64(0) // of a timer before the first event
	if e.Cause != nil {
		after = e.Cause.Offset
	}
	return fmt.Sprintf("%s %q %s qos %d after %d: %s", e.Topic, e.Key, e.Time, e.QoS, after, e.Payload)
}

func TestKill9LeavesTheStateOfAllRulesAsInAnUndisturbedRunOverTheSameLog(t *testing.T) {
	dir, err := os.MkdirTemp("", "hk") //nolint:usetesting // the path of the socket would be too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) // after the log was shown
	t.Setenv("RUNTIME_DIRECTORY", dir)
	addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
	g := &gatewayProcess{bin: builtHoldfast(t), config: filepath.Join(dir, "holdfast.yaml")}
	if err := os.WriteFile(g.config, fmt.Appendf(nil, everyState, addr), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load([]string{g.config}, Parts{})
	if err != nil {
		t.Fatal(err)
	}
	var h history
	stop := make(chan struct{})
	kills, stops := 0, 0
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(g.config + ".log")
			t.Logf("the gateway's log ends:\n%s", log[max(0, len(log)-4000):])
		}
	})
	g.start(t)
	ended := publishAlways(addr, stop)
	for round := range 16 {
		time.Sleep(200*time.Millisecond + rand.N(600*time.Millisecond))
		if round%5 == 4 { // with a checkpoint, after which older inputs go
			g.end(syscall.SIGTERM)
			h.look(t, cfg)
			stops++
		} else {
			g.end(syscall.SIGKILL)
			kills++
		}
		g.start(t)
	}
	time.Sleep(time.Second)
	close(stop)
	<-ended
	time.Sleep(1500 * time.Millisecond) // silence ends windows
	g.end(syscall.SIGKILL)
	h.look(t, cfg)

	want := h.again(t, cfg.Rules)
	if len(cfg.Rules.Inputs()) != 1 {
		t.Fatalf("rules read %v: only one of them is run again", cfg.Rules.Inputs())
	}
	perRule := map[string]int{}
	for _, stream := range cfg.Rules.Outputs() {
		var run, undisturbed []string
		for i := range h.streams[stream] {
			run = append(run, shown(&h.streams[stream][i]))
		}
		for i := range want.Outputs {
			if o := &want.Outputs[i]; o.Stream == stream {
				undisturbed = append(undisturbed, shown(&o.Event))
				perRule[o.Rule]++
			}
		}
		for i := range max(len(run), len(undisturbed)) {
			if i >= len(run) || i >= len(undisturbed) || run[i] != undisturbed[i] {
				lines := func(all []string) string { return strings.Join(all[min(i, len(all)):min(i+5, len(all))], "\n") }
				t.Fatalf("stream %s has %d events, an undisturbed run gives %d; from number %d on (-undisturbed +run):\n%s",
					stream, len(run), len(undisturbed), i+1, cmp.Diff(lines(undisturbed), lines(run)))
			}
		}
	}
	if letters := len(h.streams[streamDead]); letters != len(want.Failures) {
		t.Errorf("%d dead letters, an undisturbed run gives %d", letters, len(want.Failures))
	}
	for _, r := range cfg.Rules.Rules() {
		if perRule[r.Name] == 0 {
			t.Errorf("the rule %s has put nothing out: it shows nothing", r.Name)
		}
	}
	t.Logf("%d kills and %d stops: %d events, %d logged inputs, %d outputs of %d rules equal, %d dead letters",
		kills+1, stops, len(h.streams[rules.EventsStream]), len(h.inputs), len(want.Outputs), len(perRule), len(want.Failures))
}
