package sim

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what to simulate, where to send it and how fast.
type Options struct {
	Broker   string      // tcp://HOST:PORT (or mqtt://), tls://HOST:PORT (or mqtts://, ssl://); the port may be left out
	TLS      *tls.Config // for tls://; nil: the system's authorities
	Username string
	Password string
	// Dial opens the connections, for tests without a network; nil: over TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Scenario *Scenario // nil: the example "plant"
	Seed     uint64    // 0: that of the scenario
	Boards   int       // 0: those of the scenario; else see [Scenario.Fleet]

	// The clock of the boards begins at Start when Run does, and goes Speed
	// times as fast as that of this machine. With a Speed above 1 what boards
	// say of the time is soon in the future.
	Start time.Time     // zero: that of the scenario, else now
	Speed float64       // 0: 1
	For   time.Duration // ends after so long, in the time of the boards; 0: with the context

	Window int           // messages that a board may have unacknowledged; 0: 16
	Drain  time.Duration // how long to wait at the end for what is unacknowledged; 0: 5s

	Counters *Counters    // is counted into, to be watched while it runs; nil: own
	Log      *slog.Logger // hears when boards lose the broker and have it again; nil: nobody

	// Acknowledged is called for each message when its PUBACK is there: for
	// those of one board one after the other, for several boards at once.
	Acknowledged func(Message)
}

// Counters count what the boards do. They may be read at any time.
type Counters struct {
	Published    atomic.Int64 // messages sent, each once: readings, second sendings by faulty boards, status
	Acknowledged atomic.Int64 // of these: the broker has answered with a PUBACK
	Resent       atomic.Int64 // sendings beyond the first, after a link that broke before the PUBACK
	Dropped      atomic.Int64 // readings that a full buffer gave up, never sent: of Buffer in a break of the scenario, about twice that while the broker is away
	Connects     atomic.Int64 // connections that the broker accepted
	Breaks       atomic.Int64 // connections that broke against the scenario
	Cuts         atomic.Int64 // connections that broke because the scenario says so; the broker publishes a will for each
	Refusals     atomic.Int64 // connections that could not be made
	GivenUp      atomic.Int64 // connections that were given up at the end while they were being made
	Connected    atomic.Int64 // boards that have a connection now
}

// Stats are the counters of a run that has ended; see [Counters].
type Stats struct {
	Boards       int
	Published    int64
	Acknowledged int64
	Resent       int64
	Dropped      int64
	Connects     int64
	Breaks       int64
	Cuts         int64
	Refusals     int64
	Unsent       int64 // messages that were due and never sent
}

// Unacknowledged returns how many of the published messages the broker has
// never acknowledged. It may have them all the same.
func (s Stats) Unacknowledged() int64 { return s.Published - s.Acknowledged }

// ErrUnreachable is wrapped by the error of [Run] if no board ever had a
// connection.
var ErrUnreachable = errors.New("broker not reachable")

// Run has the boards of a scenario publish until the context or Options.For
// ends. Then the boards get Options.Drain to have acknowledged what they have
// sent, say "offline" and disconnect; Stats tell what came of it. A broker that
// is away is not an error: boards keep trying, with back-off and jitter. The
// error is of the options, or [ErrUnreachable].
func Run(ctx context.Context, o Options) (Stats, error) {
	d, err := newDialer(o)
	if err != nil {
		return Stats{}, err
	}
	if o.Speed < 0 || o.For < 0 || o.Drain < 0 || o.Window < 0 || o.Boards < 0 {
		return Stats{}, errors.New("run: speed, duration, drain, window and boards must not be negative")
	}
	if o.Scenario == nil {
		if o.Scenario, err = Example("plant"); err != nil {
			return Stats{}, err
		}
	}
	o.Seed = cmp.Or(o.Seed, o.Scenario.Seed)
	o.Speed = cmp.Or(o.Speed, 1)
	o.Window = cmp.Or(o.Window, 16)
	o.Drain = cmp.Or(o.Drain, 5*time.Second)
	if o.Start.IsZero() {
		o.Start = o.Scenario.Start
	}
	if o.Counters == nil {
		o.Counters = &Counters{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}

	began := time.Now()
	if o.Start.IsZero() {
		o.Start = began
	}
	r := &simulation{
		Options: o, dialer: d, began: began,
		start: o.Start.UTC().Truncate(time.Millisecond), // as [Scenario.Fleet] does
		fleet: o.Scenario.Fleet(o.Seed, o.Start, o.Boards),
	}
	return r.all(ctx)
}

// simulation is one call of Run.
type simulation struct {
	Options
	dialer *dialer
	fleet  *Fleet
	began  time.Time // by the clock of this machine
	start  time.Time // by the clock of the scenario
	unsent atomic.Int64

	mu      sync.Mutex
	failing map[string]bool // boards without a connection that they want
	last    error
}

func (r *simulation) all(ctx context.Context) (Stats, error) {
	// The boards outlive ctx by Drain.
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var playing, sending sync.WaitGroup
	for i, b := range r.fleet.boards {
		// What the board has kept comes at once, some of it twice, and must
		// not be dropped while it connects.
		out := newOutbox(2*b.Buffer+r.Window, &r.Counters.Dropped)
		playing.Go(func() { r.play(ctx, b, r.fleet.Board(i), out) })
		sending.Go(func() { newSender(r, b, out).run(ctx, hard) })
	}
	playing.Wait()
	drained := time.AfterFunc(r.Drain, cancel)
	defer drained.Stop()
	sending.Wait()

	c := r.Counters
	s := Stats{
		Boards: r.fleet.Len(), Published: c.Published.Load(), Acknowledged: c.Acknowledged.Load(),
		Resent: c.Resent.Load(), Dropped: c.Dropped.Load(), Connects: c.Connects.Load(),
		Breaks: c.Breaks.Load(), Cuts: c.Cuts.Load(), Refusals: c.Refusals.Load(), Unsent: r.unsent.Load(),
	}
	if s.Connects == 0 && r.last != nil {
		return s, fmt.Errorf("connect to %s: %w: %w", r.Broker, ErrUnreachable, r.last)
	}
	return s, nil
}

// elapsed returns how long the scenario has been going on.
func (r *simulation) elapsed() time.Duration {
	return time.Duration(float64(time.Since(r.began)) * r.Speed)
}

// play puts each message of a board into its outbox when its time has come.
func (r *simulation) play(ctx context.Context, b *board, messages iter.Seq[Message], out *outbox) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	due := func(at time.Duration) bool {
		timer.Reset(time.Duration(float64(at-r.elapsed()) / r.Speed))
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	ended := false
	for m := range messages {
		at := m.At.Sub(r.start)
		if r.For > 0 && at >= r.For {
			ended = true
			break
		}
		if !due(at) {
			break
		}
		r.Counters.Dropped.Add(int64(m.Lost))
		out.put(m)
	}
	at := r.elapsed()
	if ended && due(r.For) {
		at = r.For
	}
	u := uptime{board: b}
	out.end(u.status(at, "offline", LinkDown))
}

// troubled and recovered tell the log when the first board loses the broker and
// when all have it again, and not what happens to each of hundreds.
func (r *simulation) troubled(board string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = err
	if len(r.failing) == 0 {
		r.Log.Warn("no connection to the broker; boards keep trying", "broker", r.dialer.shown, "board", board, "err", err)
	}
	if r.failing == nil {
		r.failing = map[string]bool{}
	}
	r.failing[board] = true
}

func (r *simulation) recovered(board string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.failing[board] {
		return
	}
	delete(r.failing, board)
	if len(r.failing) == 0 {
		r.Log.Info("all boards have a connection again", "broker", r.dialer.shown)
	}
}
