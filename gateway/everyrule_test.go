//go:build prove

package gateway

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"holdfast/rules"
)

// everyState has every window, aggregate, function with a memory and timer, and
// rules whose state comes from a lookup table. It is for the store and the address.
const everyState = `
gateway: proof
store: {path: %q}
mqtt: {listen: %q}
http: {listen: off}
streams: {events: {max: 1GiB}, out: {max: 256MiB, keep: 24h}, late: {max: 64MiB, keep: 24h}}
tables: {limits: {file: limits.csv, key: d}}
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
  - {name: looks, from: p/#, where: 'd != "pause" && int(n) %% 5 == 0', emit: {stream: out, topic: looks, fields: {d: d, n: n, limit: 'lookup("limits", d, "limit")', all: 'total(lookup("limits", d, "limit"))'}}}
  - {name: limited, from: p/#, where: d != "pause", key: d, window: {tumbling: 700ms, grace: 50ms}, aggregate: {n: count(), limits: 'sum(lookup("limits", d, "limit"))'}, emit: {stream: out, topic: "limited/{key}"}}
  - {name: each, from: {every: 100ms}, emit: {stream: out, topic: each, fields: {at: time, c: counter(true)}}}
  - {name: reads, from: {rule: levels}, key: d, window: {count: 5}, aggregate: {n: sum(n)}, emit: {stream: out, topic: "reads/{key}"}}
`

// limits is the content of the table of everyState in one of its versions.
func limits(version int) string {
	return fmt.Sprintf("d,limit\na,%d\nb,%d\nc,%d\n", version, 10*version, 100*version)
}

// mostLimits bounds the versions of the table.
const mostLimits = 100

// allLimits are the versions of the table by what the log calls them.
func allLimits() (map[string]*rules.Table, error) {
	all := map[string]*rules.Table{}
	for n := range mostLimits {
		t, err := rules.ParseTable("limits", "limits.csv", "d", []byte(limits(n)))
		if err != nil {
			return nil, err
		}
		all[t.Version] = t
	}
	return all, nil
}

// gatewayProcess is the real holdfast with the rules of everyState, its
// configuration in a directory of its own.
type gatewayProcess struct {
	bin, dir, addr string
	cmd            *exec.Cmd
}

// newGatewayProcess writes a configuration with the first version of the table.
func newGatewayProcess(bin, dir, store string) (*gatewayProcess, *Config, error) {
	g := &gatewayProcess{bin: bin, dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))}
	err := os.WriteFile(g.config(), fmt.Appendf(nil, everyState, store, g.addr), 0o600)
	if err == nil {
		err = g.setLimits(0)
	}
	if err != nil {
		return nil, nil, err
	}
	cfg, err := Load([]string{g.config()}, Parts{})
	return g, cfg, err
}

func (g *gatewayProcess) config() string  { return filepath.Join(g.dir, "holdfast.yaml") }
func (g *gatewayProcess) logPath() string { return filepath.Join(g.dir, "log") }

// setLimits writes a version of the table, as a whole.
func (g *gatewayProcess) setLimits(version int) error {
	path := filepath.Join(g.dir, "limits.csv")
	if err := os.WriteFile(path+".new", []byte(limits(version)), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (g *gatewayProcess) start() error {
	log, err := os.OpenFile(g.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	g.cmd = exec.Command(g.bin, "run", "--config", g.config())
	g.cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+g.dir)
	g.cmd.Stdout, g.cmd.Stderr = log, log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return g.cmd.Start()
}

func (g *gatewayProcess) end(s os.Signal) {
	_ = g.cmd.Process.Signal(s)
	_ = g.cmd.Wait()
}

// log is what the gateway has said so far.
func (g *gatewayProcess) log() string {
	b, _ := os.ReadFile(g.logPath())
	return string(b)
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
// own time, and of one that is silent now and then, until stop is closed. It
// tells which messages of device a are acknowledged; not those that were under
// way when a connection ended, which the client takes for done before they are
// sent again.
func publishAlways(addr string, stop <-chan struct{}, acknowledged func(n int)) (ended <-chan struct{}) {
	var connections atomic.Int64
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("load").SetConnectRetry(true).
		SetConnectRetryInterval(20 * time.Millisecond).SetMaxReconnectInterval(50 * time.Millisecond).SetCleanSession(false).
		SetConnectionAttemptHandler(func(_ *url.URL, c *tls.Config) *tls.Config {
			connections.Add(1)
			return c
		}))
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
				at := connections.Load()
				token := c.Publish("p/"+d, 1, false, fmt.Sprintf(`{"d":%q,"n":%d,"v":%d,"ts":%d}`, d, n, r.IntN(101), ts))
				if d == "a" && acknowledged != nil {
					go func() {
						if token.Wait() && token.Error() == nil && connections.Load() == at {
							acknowledged(n)
						}
					}()
				}
			}
			if n/100%3 == 0 && n%10 == 0 {
				c.Publish("p/pause", 1, false, fmt.Sprintf(`{"d":"pause","n":%d,"v":1,"ts":%d}`, n, time.Now().UnixMilli()))
			}
		}
	}()
	return done
}
