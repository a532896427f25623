package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/gateway"
	"holdfast/gateway/ops"
)

// gatewayEnv names the configuration with which the test binary is a gateway.
const gatewayEnv = "CONFORMANCE_GATEWAY"

func TestMain(m *testing.M) {
	if path := os.Getenv(gatewayEnv); path != "" {
		if err := runGateway(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runGateway(path string) error {
	cfg, err := gateway.Load([]string{path}, gateway.Parts{})
	if err != nil {
		return err
	}
	g, err := gateway.New(cfg, gateway.Options{})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return g.Run(ctx)
}

// server is what is held to the specification.
type server struct {
	name     string
	addr     string        // of MQTT
	web      string        // of MQTT over WebSocket
	patience time.Duration // how long an answer may take that has to come
	cmd      *exec.Cmd
	log      string // path
	ended    chan struct{}
}

// connectTimeout is how long a CONNECT may take. Mosquitto cannot be told.
const connectTimeout = 10 * time.Second

// startGateway runs this binary as a gateway.
func startGateway(t *testing.T) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "c") //nolint:usetesting // a control socket lies below, whose path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// It is patient enough for a slow machine, and gives up sooner than the
	// longest times that a dialogue asks for.
	s := &server{name: "holdfast", patience: 30 * time.Second}
	config := filepath.Join(dir, "holdfast.yaml")
	text := fmt.Sprintf(`gateway: conformance
store: {path: %q}
http: {listen: off}
mqtt:
  listen:
    - address: 127.0.0.1:0
    - {address: 127.0.0.1:0, websocket: {path: /mqtt}}
  max_packet: %dKiB
  connect_timeout: %v
`, filepath.Join(dir, "store"), maxPacketOfServer>>10, connectTimeout)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(self)
	s.cmd.Env = append(os.Environ(), gatewayEnv+"="+config, "RUNTIME_DIRECTORY="+dir, "GOGC=50") // GOGC as in holdfast run
	control := ops.NewClient(filepath.Join(dir, ops.SocketName))
	err = s.start(t, filepath.Join(dir, "log"), func() error {
		st, err := control.Status(t.Context())
		if err == nil && len(st.MQTT.Listen) != 2 {
			err = errors.New("it does not listen")
		}
		if err == nil {
			s.addr, s.web = st.MQTT.Listen[0], st.MQTT.Listen[1]
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// startMosquitto runs Debian's broker, or returns nil where there is none.
func startMosquitto(t *testing.T) *server {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path = "/usr/sbin/mosquitto"; exec.Command(path, "-h").Run() != nil && !exists(path) {
			return nil
		}
	}
	for range 5 { // somebody else may take a port that was free
		s := mosquittoOn(t, path)
		if err = s.start(t, filepath.Join(t.TempDir(), "log"), func() error {
			nc, err := net.Dial("tcp", s.addr)
			if err == nil {
				nc.Close()
			}
			return err
		}); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
}

// mosquittoOn is a broker on ports that are free now.
func mosquittoOn(t *testing.T, path string) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{name: "mosquitto", addr: freeAddr(t), web: freeAddr(t), patience: 5 * time.Second}
	_, port, _ := net.SplitHostPort(s.addr)
	_, web, _ := net.SplitHostPort(s.web)
	config := filepath.Join(dir, "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nlistener %s 127.0.0.1\nprotocol websockets\nallow_anonymous true\n"+
		"max_packet_size %d\nmax_queued_messages 0\nset_tcp_nodelay true\nsys_interval 1\n", port, web, maxPacketOfServer)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(path, "-c", config)
	return s
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// start returns when the server is up, or an error if it ends instead.
func (s *server) start(t *testing.T, log string, up func() error) error {
	t.Helper()
	s.log, s.ended = log, make(chan struct{})
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
	})
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // another process has no event to wait for
		err := up()
		if time.Since(begin) > 2*time.Minute || s.dead() {
			return fmt.Errorf("%s does not start: %w\n%s", s.name, err, s.lastLog())
		}
		if err == nil {
			return nil
		}
	}
}

func (s *server) dead() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *server) lastLog() string {
	log, _ := os.ReadFile(s.log)
	return string(log[max(0, len(log)-20_000):])
}

// memory is the anonymous memory of the process, in bytes.
func (s *server) memory() int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n << 10
		}
	}
	return 0
}

// freeAddr returns an address that nothing listens on now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
