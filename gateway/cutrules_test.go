//go:build prove

package gateway

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/rules"
)

// The test binary starts itself again in these roles, for the script that cuts
// the power.
const roleEnv = "PROVE_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "write":
		err = writeUntilCut(os.Args[1])
	case "check":
		err = checkAfterCut(os.Args[1], os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func TestPowerCutsLeaveTheStateOfAllRulesAsInAnUndisturbedRunOverTheSameLog(t *testing.T) {
	t.Setenv("HOLDFAST_BIN", builtHoldfast(t))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	seen := filepath.Join(dir, "seen")
	t.Setenv("PROVE_SEEN", seen)
	t.Setenv("TMPDIR", dir) // what is killed removes nothing
	role := func(name, args string) string { return fmt.Sprintf("%s=%s '%s' %s", roleEnv, name, self, args) }
	cmd := exec.Command("bash", filepath.Join("..", ".ci", "powercut.sh"), filepath.Join(dir, "work"), "4", "6",
		role("write", "@DIR@"), role("check", "@DIR@ @PROMISES@"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	b, err := cmd.CombinedOutput()
	out := strings.TrimSpace(string(b))
	var exit *exec.ExitError
	switch {
	case err == nil:
	case !errors.As(err, &exit):
		t.Fatal(err)
	case exit.ExitCode() == 2 && strings.Contains(out, "cannot: ") && os.Getenv("CI") != "true":
		t.Skipf("SKIP: %s", out)
	default:
		t.Errorf("a cut changed what rules put out, or lost a message (%v)\n%s", err, out)
	}
	t.Log(out[strings.LastIndexByte(out, '\n')+1:])
	// What the checks compared.
	all, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	events, outputs, most := 0, 0, 0
	for line := range strings.Lines(string(all)) {
		var e, o, r int
		if _, err := fmt.Sscan(line, &e, &o, &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		events, outputs, most = events+e, outputs+o, max(most, r)
	}
	t.Logf("rules after the cuts: %d outputs for %d events equal to those of undisturbed runs, of up to %d rules", outputs, events, most)
	if want := strings.Count(everyState, "- {name: "); !t.Failed() && most < want {
		t.Errorf("only %d rules have put anything out, of %d", most, want)
	}
}

// writeUntilCut runs a gateway with its store in the directory until it is
// killed, and prints a line for each message of device a that it acknowledged.
// Once it stops in order, so that there is a checkpoint; a second one would
// remove the inputs of the first part from the log. The lookup table changes all
// the time.
func writeUntilCut(store string) error {
	dir, err := os.MkdirTemp("", "hc")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	g, _, err := newGatewayProcess(os.Getenv("HOLDFAST_BIN"), dir, store)
	if err == nil {
		err = g.start()
	}
	if err != nil {
		return err
	}
	defer g.end(syscall.SIGKILL)
	var mu sync.Mutex
	publishAlways(g.addr, nil, func(n int) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(n)
	})
	for version := 1; version < mostLimits-1; version++ {
		time.Sleep(rand.N(time.Second))
		if err := g.setLimits(version); err != nil {
			return err
		}
		if version == 6 {
			g.end(syscall.SIGTERM)
			if err := g.start(); err != nil {
				return err
			}
		}
	}
	return errors.New("nobody cut the power")
}

// checkAfterCut starts a gateway on the store, as a cut left it, kills it, and
// compares all that the rules have ever put out with an undisturbed run. Messages
// that were promised must be in the log.
func checkAfterCut(store, promises string) error {
	dir, err := os.MkdirTemp("", "hc")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	g, cfg, err := newGatewayProcess(os.Getenv("HOLDFAST_BIN"), dir, store)
	if err == nil {
		err = g.setLimits(mostLimits - 1) // it changed while the power was off
	}
	if err == nil {
		err = g.start()
	}
	if err != nil {
		return err
	}
	time.Sleep(1500 * time.Millisecond) // silence ends windows
	g.end(syscall.SIGKILL)
	var h history
	if err := h.look(cfg); err != nil {
		return fmt.Errorf("%w\n%s", err, g.log())
	}
	if err := h.lacks(promises); err != nil {
		return err
	}
	perRule, err := h.compare(cfg)
	if err != nil {
		return err
	}
	outputs := 0
	for _, n := range perRule {
		outputs += n
	}
	seen, err := os.OpenFile(os.Getenv("PROVE_SEEN"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer seen.Close()
	_, err = fmt.Fprintln(seen, len(h.streams[rules.EventsStream]), outputs, len(perRule))
	return err
}

// lacks returns an error if a promised message of device a is not in the log.
func (h *history) lacks(promises string) error {
	there := map[string]bool{}
	for i := range h.streams[rules.EventsStream] {
		e := &h.streams[rules.EventsStream][i]
		var p struct{ N json.Number }
		if e.Topic == "p/a" && json.Unmarshal(e.Payload, &p) == nil {
			there[p.N.String()] = true
		}
	}
	f, err := os.Open(promises)
	if err != nil {
		return err
	}
	defer f.Close()
	lost := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if !there[lines.Text()] {
			lost++
		}
	}
	if lost > 0 {
		return fmt.Errorf("%d promised messages are lost", lost)
	}
	return nil
}
