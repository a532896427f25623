package demo

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/devices"
	"holdfast/devices/bme280"
	"holdfast/devices/bus"
	"holdfast/devices/sht4x"
	"holdfast/devices/sim"
	"holdfast/gateway"
	"holdfast/gateway/forward"
	"holdfast/gateway/ops"
	"holdfast/gateway/sink/httpsink"
)

func options(t *testing.T) Options {
	t.Setenv("RUNTIME_DIRECTORY", "")     // Run sets it, the test sets it back
	dir, err := os.MkdirTemp("", "demo-") //nolint:usetesting // the path of t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var boards sim.Boards
	return Options{
		Dir: dir, For: 6 * time.Second, Seed: 7, Interval: 50 * time.Millisecond,
		Parts: gateway.Parts{
			Sinks:   []forward.Kind{httpsink.Kind},
			Drivers: []devices.Driver{bme280.Driver, sht4x.Driver},
			Buses:   bus.Buses{Simulated: boards.Open},
		},
		Look: func(Moment) {}, Tell: func(News) {},
	}
}

func TestTheBacklogGrowsWhileTheLinkIsDownAndNothingIsLost(t *testing.T) {
	o := options(t)
	var down []Moment
	o.Look = func(m Moment) {
		if !m.Up {
			down = append(down, m)
		}
	}
	var news []string
	o.Tell = func(n News) { news = append(news, n.Text) }
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Faults {
		t.Error(f)
	}
	if len(down) < 2 {
		t.Fatalf("the link was down in %d moments", len(down))
	}
	first, last := down[0], down[len(down)-1]
	if last.Backlog < first.Backlog+20 {
		t.Errorf("the backlog was %d and then %d while the link was down", first.Backlog, last.Backlog)
	}
	if last.Delivered != first.Delivered {
		t.Errorf("%d events reached the cloud over a link that is down", last.Delivered-first.Delivered)
	}
	if last.Acknowledged <= first.Acknowledged {
		t.Error("sensors had to wait for the cloud")
	}
	if r.Peak < last.Backlog || r.Outage < 500*time.Millisecond {
		t.Errorf("peak %d, outage %v", r.Peak, r.Outage)
	}
	all := strings.Join(news, "\n")
	for _, want := range []string{"the link to the cloud goes down", "the link is up again after", "the backlog is gone"} {
		if !strings.Contains(all, want) {
			t.Errorf("nobody was told that %s:\n%s", want, all)
		}
	}
	if logged, _ := r.Delivered(); logged == 0 || r.Results == 0 || r.Acknowledged == 0 {
		t.Errorf("hardly anything happened: %+v", r)
	}
	// What is kept is a configuration that works.
	if _, err := gateway.Load([]string{filepath.Join(o.Dir, ConfigName)}, o.Parts); err != nil {
		t.Error(err)
	}
}

func TestAnInterruptWhileTheLinkIsDownStillDeliversEverything(t *testing.T) {
	o := options(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	o.Tell = func(n News) {
		if n.Kind == LinkDown {
			interrupt()
		}
	}
	begin := time.Now()
	r, err := Run(ctx, o)
	if err != nil || len(r.Faults) > 0 {
		t.Fatalf("%v %v", err, r.Faults)
	}
	if r.Acknowledged == 0 || time.Since(begin) > 2*settle {
		t.Errorf("%d events in %v", r.Acknowledged, time.Since(begin))
	}
}

func TestEveryKindOfLossIsNoticed(t *testing.T) {
	account := func(stream string, n uint64) Account {
		return Account{Destination: "d", Stream: stream, Ledger: ops.Ledger{Appended: n, Delivered: n}, Received: n}
	}
	for _, c := range []struct {
		name string
		harm func(*Report)
		want string // "" means no fault
	}{
		{"nothing", func(*Report) {}, ""},
		{"sent again after a broken link", func(r *Report) {
			r.Acknowledged, r.Resent = 8, 1
		}, ""},
		{"a will of a connection that was given up while it was made", func(r *Report) {
			r.Acknowledged, r.Broken = 8, 1
		}, ""},
		{"acknowledged and not in the log", func(r *Report) { r.Acknowledged++ }, "the log has 10"},
		{"in the log from nowhere", func(r *Report) { r.Acknowledged = 7 }, "2 more than sensors sent"},
		{"acknowledged and not in the cloud", func(r *Report) { r.Lost = 1 }, "1 messages that were acknowledged"},
		{"another event in its place", func(r *Report) { r.Accounts[0].Received-- }, "the cloud has 9"},
		{"delivered and never seen", func(r *Report) { r.Accounts[1].Received-- }, "3 events of d/alerts are delivered, the cloud has 2"},
		{"still waiting", func(r *Report) { r.Accounts[0].Delivered--; r.Accounts[0].Pending++ }, "1 events of d/events are not delivered yet"},
		{"dropped", func(r *Report) { r.Accounts[0].Delivered--; r.Accounts[0].Dropped++ }, "of 10 events of d/events 9 are delivered"},
		{"a ledger that does not balance", func(r *Report) { r.Accounts[0].Delivered-- }, "does not balance"},
		{"a stream without an account", func(r *Report) { r.Accounts = r.Accounts[:1] }, "3 results, the cloud 10 and 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Report{
				Acknowledged: 9, Wills: 1, Logged: 10, Results: 3,
				Accounts: []Account{account("events", 10), account("alerts", 3)},
			}
			c.harm(&r)
			r.check()
			got := strings.Join(r.Faults, "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAPromiseIsKeptOnlyByTheSameMessage(t *testing.T) {
	p := newPromises()
	p.make("a/b", []byte("1"))
	p.make("a/b", []byte("1")) // a board that sends it twice is promised two
	p.keep("a/b", []byte("1"))
	p.keep("a/b", []byte("2")) // of nobody who was promised anything
	p.keep("a/c", []byte("3")) // arrives before its acknowledgement
	p.make("a/c", []byte("3"))
	if n := p.broken(); n != 1 {
		t.Errorf("%d promises are open, want 1", n)
	}
	p.keep("a/b", []byte("1"))
	if n := p.broken(); n != 0 {
		t.Errorf("%d promises are open, want none", n)
	}
}

func TestAnAlertThatHadToWaitForTheLinkCountsAsHeld(t *testing.T) {
	for _, c := range []struct {
		name         string
		waits        bool // when the link comes back
		caughtUp     bool
		prompt, held int
	}{
		{"none waited", false, false, 2, 0},
		{"one of those that waited", true, false, 0, 2},
		{"one after them", true, true, 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			far, err := newCloud(newPromises())
			if err != nil {
				t.Fatal(err)
			}
			defer far.close()
			far.cutLink()
			far.restoreLink(c.waits)
			if c.caughtUp {
				far.caughtUp()
			}
			post(t, far)
			if len(far.prompt) != c.prompt || len(far.held) != c.held {
				t.Errorf("%d prompt and %d held, want %d and %d", len(far.prompt), len(far.held), c.prompt, c.held)
			}
		})
	}
}

const twoItems = `{"id":"g/1/alerts/1","stream":"alerts","offset":1,"topic":"t","data":1}
{"id":"g/1/alerts/2","stream":"alerts","offset":2,"topic":"t","data":2}
`

func TestTheCloudCountsAnEventOnce(t *testing.T) {
	c, err := newCloud(newPromises())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for range 2 {
		post(t, c)
	}
	if got := c.received[place{"alarms", "alerts"}]; got.distinct != 2 || got.again != 2 || got.disordered != 0 {
		t.Errorf("got %+v, want 2 events, both twice, in order", got)
	}
	if c.total() != 2 {
		t.Errorf("%d in all, want 2", c.total())
	}
}

func TestALinkThatIsDownLetsNothingThroughAndKeepsItsAddress(t *testing.T) {
	c, err := newCloud(newPromises())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	send := func() error {
		resp, err := client.Post(c.url()+"/alarms", "", strings.NewReader(twoItems))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	c.cutLink()
	for range 3 { // the kept connection, and new ones
		if err := send(); err == nil {
			t.Error("a request got through")
		}
	}
	c.restoreLink(false)
	if err := send(); err != nil {
		t.Errorf("the link is up again: %v", err)
	}
}

func post(t *testing.T, c *cloud) {
	t.Helper()
	resp, err := http.Post(c.url()+"/alarms", "", strings.NewReader(twoItems))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatal(resp.Status)
	}
}
