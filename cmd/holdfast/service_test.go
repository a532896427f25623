package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/gateway/ops"
)

// manager is the end of the service manager: what it is told, in order.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func listenAsManager(t *testing.T, socket string) manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	return manager{t, conn}
}

// next returns the lines of the next datagram, which begins with the given one.
func (m manager) next(first string) []string {
	m.t.Helper()
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	if err != nil {
		m.t.Fatalf("waiting for %s: %v", first, err)
	}
	lines := strings.Split(string(b[:n]), "\n")
	if lines[0] != first {
		m.t.Fatalf("got %q, want %s", lines, first)
	}
	return lines
}

// shortDir is a folder for sockets, whose path may have 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf") //nolint:usetesting // the folder of t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestTheServiceManagerIsToldWhatTheGatewayDoes(t *testing.T) {
	short := shortDir(t)
	for name, socket := range map[string]string{
		"path": filepath.Join(short, "notify"), "abstract socket": "@holdfast-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			m := listenAsManager(t, socket)
			t.Setenv("NOTIFY_SOCKET", socket)
			t.Setenv("WATCHDOG_USEC", "3600000000") // so that nothing comes by the clock
			t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
			dir := shortDir(t)
			t.Setenv("XDG_RUNTIME_DIR", dir)
			t.Setenv("RUNTIME_DIRECTORY", "")
			config := filepath.Join(dir, "holdfast.yaml")
			write := func(more string) {
				t.Helper()
				if err := os.WriteFile(config, []byte("gateway: press-4\nstore: {path: store}\nmqtt: {listen: 127.0.0.1:0}\nhttp: {listen: off}\n"+more), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("")
			log := slog.New(slog.DiscardHandler)
			r := &runner{files: configFlag{paths: []string{config}}, log: log, stderr: io.Discard, service: newService(log)}
			if _, err := r.reread(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- r.run(ctx) }()

			if first := m.next("READY=1"); len(first) != 1 {
				t.Errorf("ready: got %q", first)
			}
			client := ops.NewClient(ops.SocketPaths(filepath.Join(dir, "store"))...)
			st, err := client.Status(t.Context())
			if err != nil || len(st.MQTT.Listen) != 1 {
				t.Fatalf("a gateway that is ready: %+v, %v", st.MQTT, err)
			}
			if alive := m.next("WATCHDOG=1"); !slices.Contains(alive, "STATUS=ok: 0 events stored, 0 clients") {
				t.Errorf("alive: got %q", alive)
			}

			before := monotonic()
			if err := client.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			at, _ := strings.CutPrefix(m.next("RELOADING=1")[1], "MONOTONIC_USEC=")
			if usec, err := strconv.ParseInt(at, 10, 64); err != nil || usec < before.Microseconds() || usec > monotonic().Microseconds() {
				t.Errorf("the time of the reload: got %q, %v", at, err)
			}
			m.next("READY=1")

			write("nothing: here\n")
			if err := client.Reload(t.Context()); err == nil {
				t.Fatal("the reload succeeded")
			}
			m.next("RELOADING=1")
			if over := m.next("READY=1"); len(over) != 2 || !strings.Contains(over[1], "the last reload failed") {
				t.Errorf("after a reload that failed: got %q", over)
			}

			cancel()
			m.next("STOPPING=1")
			if err := <-ended; err != nil {
				t.Error(err)
			}
			sendTo(&net.UnixAddr{Name: socket, Net: "unixgram"}, log)("nothing came before this")
			m.next("nothing came before this")
		})
	}
}

// fakeGateway answers when it is told to.
type fakeGateway struct {
	ready  chan struct{}
	answer chan error
}

func (g *fakeGateway) Ready() <-chan struct{} { return g.ready }

func (g *fakeGateway) Alive(ctx context.Context) (ops.Status, error) {
	select {
	case err := <-g.answer:
		return ops.Status{State: ops.OK}, err
	case <-ctx.Done():
		return ops.Status{}, ctx.Err()
	}
}

// told collects what a service tells.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (l *told) send(state string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.Split(state, "\n")...)
}

// take returns what was told since it was last asked.
func (l *told) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func TestAGatewayThatDoesNotAnswerIsNotSaidToBeAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log told
		s := &service{send: log.send, every: 10 * time.Second, watch: true}
		g := &fakeGateway{ready: make(chan struct{}), answer: make(chan error)}
		over := make(chan struct{})
		var attendant sync.WaitGroup
		attendant.Go(func() { s.attend(g, over) })
		want := func(what string, lines ...string) {
			t.Helper()
			synctest.Wait()
			if got := log.take(); !slices.Equal(got, lines) {
				t.Errorf("%s: told %q, want %q", what, got, lines)
			}
		}
		time.Sleep(time.Hour)
		want("while it starts")
		close(g.ready)
		want("when it is ready", "READY=1")
		g.answer <- nil
		want("when it answers", "WATCHDOG=1", "STATUS=ok: 0 events stored, 0 clients")
		time.Sleep(10 * time.Second)
		g.answer <- nil
		want("at the next look", "WATCHDOG=1")
		time.Sleep(time.Hour)
		want("while it is stuck", "STATUS=the store or the broker does not answer")
		g.answer <- errors.New("the store does not answer:\n it is closed")
		want("when it has failed", "STATUS=the store does not answer: it is closed")
		time.Sleep(10 * time.Second)
		g.answer <- nil
		want("when it is well again", "WATCHDOG=1", "STATUS=ok: 0 events stored, 0 clients")
		s.stop()
		want("when it stops", "STOPPING=1", "STATUS=stopping: what was taken is brought to the disk")
		time.Sleep(10 * time.Second)
		g.answer <- nil
		s.reload()(nil)
		want("after that")
		time.Sleep(10 * time.Second) // it is being looked at when it ends
		close(over)
		attendant.Wait()
	})
}

func TestAPauseBeforeANewStartIsNoFaultOfTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log told
		s := &service{send: log.send, every: 10 * time.Second, watch: true}
		if !s.rest(t.Context(), 25*time.Second, errors.New("disk gone")) {
			t.Error("it was over before its time")
		}
		want := []string{"WATCHDOG=1", "STATUS=the store failed; the gateway starts anew after 25s: disk gone", "WATCHDOG=1", "WATCHDOG=1"}
		if got := log.take(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if s.rest(ctx, time.Hour, nil) {
			t.Error("it did not end with the context")
		}
		if nobody := (*service)(nil); !nobody.rest(t.Context(), time.Hour, nil) {
			t.Error("without a manager there was no pause")
		}
	})
}

func TestTheServiceManagerIsToldWhyAGatewayDoesNotStart(t *testing.T) {
	var log told
	s := &service{send: log.send}
	err := errors.New("plant.yaml:4:5: unknown key\n    4 | x\n      | ^")
	if s.failed(err) != err || s.failed(nil) != nil || (*service)(nil).failed(err) != err {
		t.Error("the error is another one")
	}
	if got, want := log.take(), []string{"STATUS=plant.yaml:4:5: unknown key"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestOnlyAManagerThatAsksIsToldThatTheGatewayIsAlive(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		socket, usec, pid string
		told, watch       bool
		every             time.Duration
	}{
		{"", "1000000", "", false, false, 0},
		{"vsock:2:1", "", "", false, false, 0},
		{"/run/x", "", "", true, false, statusEvery},
		{"/run/x", "1000000", "", true, true, 500 * time.Millisecond},
		{"@x", "3000000", own, true, true, 1500 * time.Millisecond},
		{"@x", "3000000", "1", true, false, statusEvery},
		{"@x", "300000000", own, true, true, statusEvery},
		{"@x", "1", own, true, true, time.Millisecond},
		{"@x", "soon", own, true, false, statusEvery},
	} {
		t.Setenv("NOTIFY_SOCKET", test.socket)
		t.Setenv("WATCHDOG_USEC", test.usec)
		t.Setenv("WATCHDOG_PID", test.pid)
		s := newService(slog.New(slog.DiscardHandler))
		if (s != nil) != test.told || s != nil && (s.watch != test.watch || s.every != test.every) {
			t.Errorf("%+v: got %+v", test, s)
		}
		for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
			if _, there := os.LookupEnv(name); there {
				t.Errorf("%+v: %s is left for the processes that this one starts", test, name)
			}
		}
	}
}

func TestTheStatusOfAServiceIsOneShortLine(t *testing.T) {
	late := func(name string, lag uint64) ops.DestinationStatus {
		return ops.DestinationStatus{Name: name, Lag: lag, Oldest: ops.Seconds(time.Minute)}
	}
	st := ops.Status{
		State: ops.Degraded, Reasons: []string{"destination cloud does not take events:\n" + strings.Repeat("x", 300), "more"},
		Streams:      []ops.StreamStatus{{First: 11, Next: 1011}, {First: 1, Next: 235}},
		MQTT:         ops.MQTTStatus{Clients: 1},
		Destinations: []ops.DestinationStatus{late("cloud", 1000), late("cloud", 200), {Name: "quick", Lag: 3}, late("site", 3)},
	}
	got := statusLine(st)
	want := "degraded: 1,234 events stored, 1 client; cloud is behind by 1,200; site is behind by 3; destination cloud does not take events: xxx"
	if !strings.HasPrefix(got, want) || len([]rune(got)) != 200 || !strings.HasSuffix(got, "x…") {
		t.Errorf("got %q", got)
	}
	st = ops.Status{State: ops.OK, Streams: []ops.StreamStatus{{First: 7, Next: 8}}, Destinations: []ops.DestinationStatus{late("a", 1), late("b", 1), late("c", 1), late("d", 1), late("e", 1)}}
	if got, want := statusLine(st), "ok: 1 event stored, 0 clients; a is behind by 1; b is behind by 1; c is behind by 1, and 2 more"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What crashes, and what the watchdog ends, exits with 2, which is a wrong command
// line as well.
func TestTheUnitStartsAGatewayAgainThatHasCrashed(t *testing.T) {
	b, err := os.ReadFile("../../configs/holdfast.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := strings.Split(string(b), "\n")
	for _, want := range []string{"Type=notify", "Restart=always"} {
		if !slices.Contains(unit, want) {
			t.Errorf("the unit has no line %s", want)
		}
	}
	if i := slices.IndexFunc(unit, func(l string) bool { return strings.HasPrefix(l, "RestartPreventExitStatus=") }); i >= 0 {
		t.Errorf("the unit has %s", unit[i])
	}
}
