package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/gateway/ops"
)

// statusEvery is how often the service manager is told how the gateway is, if
// it does not watch more closely.
const statusEvery = 30 * time.Second

// service tells a service manager such as systemd how the gateway is, by the
// protocol of sd_notify(3). Nil tells nobody.
type service struct {
	send  func(state string)
	every time.Duration // how often the gateway is looked at
	watch bool          // the manager ends a process that does not say that it is alive

	mu        sync.Mutex
	ready     bool
	stopping  bool
	reloading int    // reloads under way
	status    string // the last one told
}

// watched is what a service needs of a gateway.
type watched interface {
	Ready() <-chan struct{}
	Alive(ctx context.Context) (ops.Status, error)
}

// newService returns the service that this process is, nil if no manager has
// started it as one. It takes the variables that say so from the environment:
// they are not for the processes that this one starts.
func newService(log *slog.Logger) *service {
	socket, watchdog, pid := os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name) // fails only for names that cannot be
	}
	if socket == "" {
		return nil
	}
	if socket[0] != '/' && socket[0] != '@' {
		log.Warn("the service manager cannot be told anything: $NOTIFY_SOCKET is neither a path nor an abstract socket", "socket", socket)
		return nil
	}
	s := &service{every: statusEvery, send: sendTo(&net.UnixAddr{Name: socket, Net: "unixgram"}, log)}
	usec, err := strconv.ParseInt(watchdog, 10, 64)
	if err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watch = true
		s.every = max(min(s.every, time.Duration(usec)*time.Microsecond/2), time.Millisecond)
	}
	return s
}

// sendTo returns what sends a datagram to the manager. A manager that is away
// for a moment does not matter; the first failure of several is logged.
func sendTo(manager *net.UnixAddr, log *slog.Logger) func(state string) {
	failing := false
	return func(state string) {
		conn, err := net.DialUnix("unixgram", nil, manager)
		if err == nil {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // it may be too busy to read
			_, err = conn.Write([]byte(state))
			conn.Close()
		}
		if err != nil && !failing {
			log.Warn("the service manager cannot be told how the gateway is", "err", err)
		}
		failing = err != nil
	}
}

// tell sends lines and, if it has changed, a status, unless the manager knows
// that all is over.
func (s *service) tell(status string, lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return
	}
	s.put(status, lines...)
}

// put is tell by someone who holds s.mu.
func (s *service) put(status string, lines ...string) {
	if status != "" && status != s.status {
		s.status = status
		lines = append(lines, "STATUS="+status)
	}
	if len(lines) > 0 {
		s.send(strings.Join(lines, "\n"))
	}
}

// attend tells that g is ready when it is, and then how it is, until over is
// closed. Where the manager watches, it is told that g is alive only after g
// has answered.
func (s *service) attend(g watched, over <-chan struct{}) {
	if s == nil {
		return
	}
	select {
	case <-g.Ready():
	case <-over:
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	type look struct {
		st  ops.Status
		err error
	}
	looks := make(chan look, 1)
	begin := func() {
		looking.Go(func() {
			st, err := g.Alive(ctx)
			looks <- look{st, err}
		})
	}
	s.begun()
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	begin()
	busy := true // g is being looked at
	for {
		select {
		case <-over:
			return
		case <-tick.C:
			if busy {
				s.tell("the store or the broker does not answer")
				continue
			}
			busy = true
			begin()
		case l := <-looks:
			busy = false
			if l.err != nil {
				s.tell(line(l.err.Error()))
			} else {
				s.alive(statusLine(l.st))
			}
		}
	}
}

// begun tells that the gateway takes events.
func (s *service) begun() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.ready = true
		s.put("", "READY=1")
	}
}

// alive tells that the process is alive, and how the gateway is.
func (s *service) alive(status string) {
	if s.watch {
		s.tell(status, "WATCHDOG=1")
	} else {
		s.tell(status)
	}
}

// reload tells that a reload has begun; what it returns, that it is over. The
// manager takes a service that is not ready for one that still starts.
func (s *service) reload() (over func(error)) {
	if s == nil {
		return func(error) {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready || s.stopping {
		return func(error) {}
	}
	s.reloading++
	s.put("", "RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(monotonic().Microseconds(), 10))
	return func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reloading--
		if s.stopping || s.reloading > 0 {
			return
		}
		status := ""
		if err != nil {
			status = "the last reload failed, and the gateway goes on with the configuration it had"
		}
		s.put(status, "READY=1")
	}
}

// rest waits for so long, until a gateway whose store has failed is started
// anew. The process is as it should be meanwhile, and the manager is told so.
// It returns false if ctx ends.
func (s *service) rest(ctx context.Context, pause time.Duration, why error) bool {
	var tick <-chan time.Time
	status := line(fmt.Sprintf("the store failed; the gateway starts anew after %v: %v", pause, why))
	if s != nil {
		t := time.NewTicker(s.every)
		defer t.Stop()
		tick = t.C
		s.alive(status)
	}
	for end := time.After(pause); ; {
		select {
		case <-tick:
			s.alive(status)
		case <-end:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// stop tells that the gateway stops; nothing is told after that.
func (s *service) stop() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.put("stopping: what was taken is brought to the disk", "STOPPING=1")
	}
	s.stopping = true
}

// failed tells why the process ends, and returns that. Of several mistakes it
// tells the first; the log has them all.
func (s *service) failed(err error) error {
	if s != nil && err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		s.tell(line(first))
	}
	return err
}

// statusLine is a status in one line.
func statusLine(st ops.Status) string {
	stored := uint64(0)
	for _, s := range st.Streams {
		stored += s.Next - s.First
	}
	events := "events"
	if stored == 1 {
		events = "event"
	}
	text := fmt.Sprintf("%s: %s %s stored, %s", st.State, count(stored), events, plural(st.MQTT.Clients, "client"))
	behind := map[string]uint64{}
	var names []string
	for _, d := range st.Destinations {
		if d.Oldest.Std() < behindAfter {
			continue
		}
		if behind[d.Name] == 0 {
			names = append(names, d.Name)
		}
		behind[d.Name] += d.Lag
	}
	for i, name := range names {
		if i == 3 {
			text += fmt.Sprintf(", and %d more", len(names)-i)
			break
		}
		text += fmt.Sprintf("; %s is behind by %s", name, count(behind[name]))
	}
	if len(st.Reasons) > 0 {
		text += "; " + st.Reasons[0]
	}
	return line(text)
}

// behindAfter is how long an event may wait for a destination that keeps up.
const behindAfter = 10 * time.Second

// line makes a text one short line.
func line(text string) string {
	const most = 200
	r := []rune(strings.Join(strings.Fields(text), " "))
	if len(r) > most {
		r = append(r[:most-1], '…')
	}
	return string(r)
}

// monotonic is the clock that the manager measures reloads by.
func monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
