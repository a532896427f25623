//go:build prove

package prove

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/gateway/bench"
)

const startLimit = 30 * time.Second

// process is a gateway that can be started, killed and started again on the
// same store and ports.
type process struct {
	bin    string
	name   string
	dir    string // configuration and log
	store  string
	mqtt   string // HOST:PORT
	cgroup string // processes file of the cgroup to start in; "" for none
	env    []string
	cmd    *exec.Cmd
	ended  chan struct{}
	err    error // of the ended process
}

// newGateway prepares a gateway with its store at store ("" for a folder of
// the test's own) and further configuration. It is killed at the end of the
// test.
func newGateway(t testing.TB, store, further string) *process {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	if store == "" {
		store = filepath.Join(dir, "store")
	}
	g, err := newProcess(bin, dir, store, further)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.kill()
		if t.Failed() {
			log, _ := os.ReadFile(g.logPath())
			t.Logf("the gateway's log ends:\n%s", log[max(0, len(log)-4000):])
		}
	})
	return g
}

func newProcess(bin, dir, store, further string) (*process, error) {
	g := &process{bin: bin, name: "proof", dir: dir, store: store, mqtt: freeAddr()}
	return g, g.configure(further)
}

// configure writes the configuration anew, for the next start.
func (g *process) configure(further string) error {
	text := fmt.Sprintf("gateway: %s\nstore: {path: %q}\nmqtt: {listen: %q}\nhttp: {listen: %q}\n%s", g.name, g.store, g.mqtt, freeAddr(), further)
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(g.configPath(), []byte(text), 0o644)
}

func (g *process) configPath() string { return filepath.Join(g.dir, "holdfast.yaml") }
func (g *process) logPath() string    { return filepath.Join(g.dir, "gateway.log") }

// freeAddr returns an address that nothing listens on and that no outgoing
// connection is given, so that it is still free at the next start.
func freeAddr() string {
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
}

// start starts the gateway and returns how long it took until it answered an
// MQTT CONNECT.
func (g *process) start() (time.Duration, error) {
	if err := g.spawn(); err != nil {
		return 0, err
	}
	begin := time.Now()
	for time.Since(begin) < startLimit {
		if g.answers() == nil {
			return time.Since(begin), nil
		}
		select {
		case <-g.ended:
			return 0, fmt.Errorf("the gateway ended at its start: %v\n%s", g.err, g.lastLog())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return 0, fmt.Errorf("the gateway serves no MQTT after %v\n%s", startLimit, g.lastLog())
}

// spawn starts the gateway without waiting for it to serve.
func (g *process) spawn() error {
	log, err := os.OpenFile(g.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	g.cmd = exec.Command(g.bin, "run", "--config", g.configPath())
	if g.cgroup != "" {
		g.cmd = exec.Command("sh", "-c", `echo $$ > "$1" && shift && exec "$@"`, "sh", g.cgroup, g.bin, "run", "--config", g.configPath())
	}
	g.cmd.Stdout, g.cmd.Stderr = log, log
	g.cmd.Env = append(os.Environ(), g.env...)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		return err
	}
	ended, cmd := make(chan struct{}), g.cmd
	g.ended = ended
	go func() {
		g.err = cmd.Wait()
		close(ended)
	}()
	return nil
}

// answers tries one MQTT connection.
func (g *process) answers() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, _, err := bench.Dial(ctx, g.mqtt, bench.Login{ClientID: "prove-probe", Version: 4})
	if err == nil {
		c.Close()
	}
	return err
}

// alive reports whether the process runs.
func (g *process) alive() bool {
	if g.ended == nil {
		return false
	}
	select {
	case <-g.ended:
		return false
	default:
		return true
	}
}

// kill is kill -9.
func (g *process) kill() {
	if g.alive() {
		g.cmd.Process.Kill()
		<-g.ended
	}
}

// stop asks the gateway to end and waits until it has.
func (g *process) stop() error {
	if !g.alive() {
		return errors.New("stop: the gateway is not running")
	}
	g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.ended:
		return g.err
	case <-time.After(startLimit):
		g.kill()
		return fmt.Errorf("the gateway did not end within %v of SIGTERM", startLimit)
	}
}

func (g *process) lastLog() string {
	log, _ := os.ReadFile(g.logPath())
	return string(log[max(0, len(log)-2000):])
}

// mustStart starts the gateway or fails the test.
func (g *process) mustStart(t testing.TB) time.Duration {
	t.Helper()
	d, err := g.start()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (g *process) mustStop(t testing.TB) {
	t.Helper()
	if err := g.stop(); err != nil {
		t.Fatalf("stop: %v\n%s", err, g.lastLog())
	}
}

// status is the part of `holdfast status` that proofs look at.
type status struct {
	State   string
	MQTT    struct{ Clients int }
	Reasons []string
	Control string
	Streams []struct {
		Name             string
		First, Next      uint64
		Bytes            int64
		Appended         uint64
		Dropped, Damaged uint64
	}
	Destinations []struct {
		Name, Stream, State string
		Offset, Lag         uint64
		LastError           string `json:"last_error"`
		Ledger              struct {
			Appended, Delivered, Filtered, Expired, Dropped, Dead, Damaged uint64
			SkippedAtStart                                                 uint64 `json:"skipped_at_start"`
			Pending                                                        uint64
		}
	}
	Rules []struct {
		Name                          string
		Matched, Passed, Failed, Late uint64
		Processor                     struct{ Offset, Lag uint64 }
	}
}

// status asks the running gateway.
func (g *process) status(t testing.TB) status {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(g.bin, "status", "--config", g.configPath(), "-o", "json")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("holdfast status: %v\n%s", err, stderr.Bytes())
	}
	var s status
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("holdfast status: %v\n%s", err, out)
	}
	return s
}

// checkLedgers fails the test unless the ledger of every destination balances.
func (g *process) checkLedgers(t testing.TB) {
	t.Helper()
	for _, d := range g.status(t).Destinations {
		l := d.Ledger
		if l.Appended != l.Delivered+l.Filtered+l.Expired+l.Dropped+l.Dead+l.Damaged+l.SkippedAtStart+l.Pending {
			t.Errorf("the ledger of %s on %s does not balance: %+v", d.Name, d.Stream, l)
		}
	}
}

// cpu returns the processor time that the gateway has used.
func (g *process) cpu(t testing.TB) time.Duration {
	t.Helper()
	return processCPU(t, g.cmd.Process.Pid)
}

func processCPU(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// The name in parentheses may hold spaces; utime and stime are the 12th
	// and 13th fields after it, in hundredths of a second.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// rssAnon returns the anonymous memory of the gateway, in bytes.
func (g *process) rssAnon() (int64, error) {
	if !g.alive() {
		return 0, errors.New("the gateway is not running")
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("the kernel does not tell RssAnon")
}

// eventually waits until ok reports true, and fails the test with what if it
// does not within limit.
func eventually(t testing.TB, limit time.Duration, ok func() bool, what string, args ...any) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > limit {
			t.Fatalf("not within %v: "+what, append([]any{limit}, args...)...)
		}
	}
}
