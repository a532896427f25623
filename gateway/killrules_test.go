//go:build prove

package gateway

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shortDir makes a directory whose path leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hk") //nolint:usetesting // t.TempDir puts the long name of the test into the path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// In some rounds the lookup table changes: moments before the kill, which the
// change in the log may or may not have outlived, or while the gateway is down.
func TestKill9LeavesTheStateOfAllRulesAsInAnUndisturbedRunOverTheSameLog(t *testing.T) {
	g, cfg, err := newGatewayProcess(builtHoldfast(t), shortDir(t), "store")
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if log := g.log(); t.Failed() {
			t.Logf("the gateway's log ends:\n%s", log[max(0, len(log)-4000):])
		}
	})
	var h history
	stop := make(chan struct{})
	kills, stops, version := 0, 0, 0
	change := func() {
		t.Helper()
		version++
		must(g.setLimits(version))
	}
	const changed = "a lookup table has a new version"
	must(g.start())
	ended := publishAlways(g.addr, stop, nil)
	for round := range 16 {
		time.Sleep(200*time.Millisecond + rand.N(600*time.Millisecond))
		if round%4 == 1 {
			before := strings.Count(g.log(), changed)
			change()
			for begin := time.Now(); strings.Count(g.log(), changed) == before; time.Sleep(time.Millisecond) {
				if time.Since(begin) > 10*time.Second {
					t.Fatal("the gateway has not noticed that the table has changed")
				}
			}
			time.Sleep(rand.N(40 * time.Millisecond))
		}
		if round%5 == 4 { // with a checkpoint, after which older inputs go
			g.end(syscall.SIGTERM)
			must(h.look(cfg))
			stops++
		} else {
			g.end(syscall.SIGKILL)
			kills++
		}
		if round%8 == 6 {
			change()
		}
		must(g.start())
	}
	time.Sleep(time.Second)
	close(stop)
	<-ended
	time.Sleep(1500 * time.Millisecond) // silence ends windows
	g.end(syscall.SIGKILL)
	must(h.look(cfg))

	perRule, err := h.compare(cfg)
	must(err)
	total := 0
	for _, r := range cfg.Rules.Rules() {
		if perRule[r.Name] == 0 {
			t.Errorf("the rule %s has put nothing out: it shows nothing", r.Name)
		}
		total += perRule[r.Name]
	}
	if strings.Contains(g.log(), "a version of a lookup table is gone") {
		t.Error("a version of the table that a second run needs was removed")
	}
	// A change may have come to nothing because its kill came first; the next start
	// made it then.
	if n := h.tableChanges(); n < version {
		t.Errorf("the table changed %d times, the log has %d changes", version, n)
	}
	t.Logf("%d kills and %d stops: %d events, %d logged inputs, %d of them new versions of a table, %d outputs of %d rules equal, %d dead letters",
		kills+1, stops, len(h.streams["events"]), len(h.inputs), h.tableChanges(), total, len(perRule), len(h.streams[streamDead]))
}

func TestKill9LeavesARuleDisabledThatWasToldToBe(t *testing.T) {
	g, _, err := newGatewayProcess(builtHoldfast(t), shortDir(t), "store")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.start(); err != nil {
		t.Fatal(err)
	}
	defer func() { g.end(syscall.SIGKILL) }()
	command := func(args ...string) string {
		t.Helper()
		for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // until it runs
			cmd := exec.Command(g.bin, append(args, "--config", g.config())...)
			cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+g.dir)
			out, err := cmd.CombinedOutput()
			if err == nil {
				return string(out)
			}
			if time.Since(begin) > 20*time.Second {
				t.Fatalf("%v: %v: %s\n%s", args, err, out, g.log())
			}
		}
	}
	const off = `"name":"calm","stream":"events","disabled":true`
	for _, step := range []struct {
		do   string
		want bool
	}{{"disable", true}, {"enable", false}, {"disable", true}} {
		command("rules", step.do, "calm")
		g.end(syscall.SIGKILL)
		if err := g.start(); err != nil {
			t.Fatal(err)
		}
		if list := command("rules", "list", "-o", "json"); strings.Contains(list, off) != step.want {
			t.Errorf("after %s and kill -9: %s", step.do, list)
		}
	}
}
