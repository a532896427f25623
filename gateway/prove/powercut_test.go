//go:build prove

package prove

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestPowerCutsLoseNothingAcknowledged(t *testing.T) {
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, code := cutPower(t, bin, 20, 8)
	t.Log(lastLine(out))
	if code != 0 {
		t.Errorf("acknowledged messages were lost by power cuts, or the store did not open (exit %d)\n%s", code, out)
	}
}

// Without this one nobody could tell whether the cuts can lose anything.
func TestPowerCutsLoseMessagesOfAGatewayThatDoesNotSync(t *testing.T) {
	bin, err := unsafeBinary()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOLDFAST_UNSAFE_NO_SYNC", "1")
	out, code := cutPower(t, bin, 4, 2)
	t.Log("control without sync, which must be bad: " + lastLine(out))
	if code != 1 {
		t.Errorf("exit %d; cuts of a gateway that does not sync must lose messages (exit 1)\n%s", code, out)
	}
}

// cutPower runs .ci/powercut.sh with this test binary as its writer and
// checker. Exit 0: all promises were kept; 1: some were not.
func cutPower(t testing.TB, bin string, cuts, seconds int) (out string, code int) {
	t.Helper()
	needRoot(t)
	needTools(t, "mkfs.xfs", "mkfs.ext4", "losetup", "mount", "setsid")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOLDFAST_BIN", bin)
	role := func(name, args string) string { return fmt.Sprintf("%s=%s '%s' %s", roleEnv, name, self, args) }
	script := filepath.Join("..", "..", ".ci", "powercut.sh")
	cmd := exec.Command("bash", script, folder(t), fmt.Sprint(cuts), fmt.Sprint(seconds),
		role("promise", "@DIR@"), role("check", "@DIR@ @PROMISES@"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if code = cmd.ProcessState.ExitCode(); code == 2 && strings.Contains(string(b), "cannot: ") {
		cannot(t, "%s", b)
	}
	return strings.TrimSpace(string(b)), code
}

func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }

// promise runs a gateway on the given folder and prints one line for each
// message that it acknowledged, until it is killed.
func promise(args []string) error {
	g, done, err := roleGateway(args[0], "streams: {events: {max: 300MiB, keep: 24h}, panes: {max: 16MiB, keep: 24h}}\nrules:"+windowRule)
	if err != nil {
		return err
	}
	defer done()
	var mu sync.Mutex
	f := publish(4, func(i int) *publisher {
		return &publisher{addr: g.mqtt, number: i, window: 50, rate: 4000, version: byte(4 + i%2), onAck: func(n int) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("%d %d\n", i, n)
		}}
	})
	f.wg.Wait()
	return errors.New("the publishers ended")
}

// checkPromises starts a gateway on the given folder, as a power cut left it,
// and reads the whole stream through a destination. All promised messages must
// be there, and in order.
func checkPromises(args []string) error {
	promised, err := readPromises(args[1])
	if err != nil {
		return err
	}
	r := &receiver{addr: freeAddr(), seen: map[[2]int]bool{}}
	if err := r.up(); err != nil {
		return err
	}
	defer r.down()
	g, done, err := roleGateway(args[0], "streams: {events: {max: 300MiB, keep: 24h}, panes: {max: 16MiB, keep: 24h}}\nrules:"+windowRule+`
destinations:
  check: {type: http, url: "`+r.url()+`", from: [events], start: oldest, batch: {events: 5000, bytes: 4MiB, linger: 1ms}, compression: none}
`)
	if err != nil {
		return err
	}
	defer done()
	missing := func() (n int, example [2]int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, id := range promised {
			if !r.seen[id] {
				n, example = n+1, id
			}
		}
		return n, example
	}
	last, since := -1, time.Now()
	for {
		n, example := missing()
		if n == 0 {
			break
		}
		if have := r.distinct(); have != last {
			last, since = have, time.Now()
		}
		if time.Since(since) > 3*time.Second { // nothing more comes
			return fmt.Errorf("%d of %d promised messages are lost, such as message %d of publisher %d; %d are there", n, len(promised), example[1], example[0], last)
		}
		if !g.alive() {
			return fmt.Errorf("the gateway ended: %v\n%s", g.err, g.lastLog())
		}
		time.Sleep(10 * time.Millisecond)
	}
	arrivals, _ := r.snapshot()
	latest := map[int]int{}
	for _, a := range arrivals {
		if n, ok := latest[a.P]; ok && a.N < n {
			return fmt.Errorf("publisher %d: message %d is behind message %d", a.P, a.N, n)
		}
		latest[a.P] = a.N
	}
	return nil
}

func roleGateway(store, further string) (*process, func(), error) {
	bin, err := binary()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "holdfast-powercut-")
	if err != nil {
		return nil, nil, err
	}
	g, err := newProcess(bin, dir, store, further)
	if err == nil {
		_, err = g.start()
	}
	done := func() { g.kill(); os.RemoveAll(dir) }
	if err != nil {
		done()
		return nil, nil, err
	}
	return g, done, nil
}

func readPromises(path string) (promised [][2]int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var id [2]int
		if _, err := fmt.Sscan(lines.Text(), &id[0], &id[1]); err != nil {
			return nil, fmt.Errorf("promise %q: %w", lines.Text(), err)
		}
		promised = append(promised, id)
	}
	return promised, nil
}
