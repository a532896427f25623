package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdfast/gateway/event"
)

// Options are the choices of one destination. The zero value is usable.
type Options struct {
	Name    string        // the destination's name, for logs and errors
	Topics  []string      // topic filters that select events; none selects all
	Limits  Limits        // of one batch; zero means 500 events and 1 MiB, both at most
	Timeout time.Duration // of one Send; zero means 30 s
	Grace   time.Duration // for the attempts in flight after ctx ends; zero means 5 s, negative none
	Backoff Backoff
	Logger  *slog.Logger // nil means slog.Default

	// Select selects events beside Topics; nil selects all.
	Select func(e *event.Event) bool
	// Requests is how many calls of Send may be under way at a time, which
	// the sink must allow. 0 means 1.
	Requests int
	// Slots are shared by all forwarders to one sink; nil means that there is
	// no other.
	Slots Slots
	// Rate is how many events a second are sent at most; 0 is no limit.
	Rate int
}

// Slots bound how many calls of Send are under way at a time in all
// forwarders that share them. Who waits longest is next.
type Slots chan struct{}

// NewSlots returns slots for n calls.
func NewSlots(n int) Slots { return make(Slots, max(n, 1)) }

// Forwarder moves one [Cursor] along its stream by sending what it passes to
// one [Sink]. Events are delivered at least once, those that share an
// ordering key in offset order. The position moves only behind events that
// the sink accepted, that the topic filters or the sink itself ([Selector])
// leave out, or that became dead letters, and never past one that is still
// under way: with several requests in flight, what lies between it and the
// farthest one is sent again after a crash.
//
// What the sink's error says decides what happens next. A fault of the
// destination keeps the batch and sends it again, for ever, with a pause for
// all requests and then one at a time until it answers. [TooLarge] halves the
// batch, and later ones grow back slowly. [Permanent] halves the suspect run
// until the offending event was refused alone; only that one becomes a dead
// letter. Run belongs to one goroutine; Status to any.
type Forwarder struct {
	cur  Cursor
	sink Sink
	by   Selector // the sink, if it selects events itself
	o    Options
	log  *slog.Logger

	// all below belongs to Run
	window  window
	lanes   lanes
	parcels []*parcel // not settled, oldest first
	pace    pace
	flying  int  // attempts under way
	reading bool // the reader is asked for more
	ended   bool // there is no more

	until    time.Time // no attempt before
	failures int       // attempts in a row that the destination failed
	failedAt time.Time // when the last of them was noted
	barren   int       // dead letters in a row with nothing delivered between them
	lastErr  string
	lastDead string
	since    time.Time // of the first of the failures

	mu     sync.Mutex
	status Status
}

// New returns a forwarder from cur to sink. It does nothing until Run.
// Closing the sink stays with the caller.
func New(cur Cursor, sink Sink, o Options) *Forwarder {
	if o.Limits.Events <= 0 {
		o.Limits.Events = 500
	}
	if o.Limits.Bytes <= 0 {
		o.Limits.Bytes = 1 << 20
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Requests = max(o.Requests, 1)
	if o.Slots == nil {
		o.Slots = NewSlots(o.Requests)
	}
	o.Backoff = o.Backoff.withDefaults()
	by, _ := sink.(Selector)
	return &Forwarder{
		cur: cur, sink: sink, by: by, o: o, lanes: newLanes(o.Requests), pace: newPace(o.Limits.Events),
		log:    o.Logger.With("destination", o.Name),
		status: Status{Name: o.Name, State: Idle},
	}
}

// CursorError reports that the log, not the destination, failed: the position
// could not be read or moved. [Forwarder.Run] ends with it.
type CursorError struct {
	Destination string
	Err         error
}

func (e *CursorError) Error() string {
	return fmt.Sprintf("destination %q: %v", e.Destination, e.Err)
}
func (e *CursorError) Unwrap() error { return e.Err }

// Run forwards until ctx ends and then returns nil, after the attempts in
// flight are over, for which they have [Options.Grace]. It returns nil earlier
// if the cursor is at its end and all of it is settled, and otherwise only
// with a [*CursorError]. A forwarder runs once.
func (f *Forwarder) Run(ctx context.Context) error {
	hard, stop := graceful(ctx, f.o.Grace)
	soft, halt := context.WithCancel(ctx)
	var busy sync.WaitGroup
	ask, read := make(chan Limits, 1), make(chan handed, 1)
	results := make(chan result, f.o.Requests)
	defer func() { // nothing that was started outlives Run
		halt()
		stop()
		close(ask)
		busy.Wait()
	}()
	busy.Go(func() { f.read(soft, ask, read) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := f.book(hard); err != nil {
			if hard.Err() != nil {
				return nil
			}
			return err
		}
		if ctx.Err() != nil && f.flying == 0 || f.ended && len(f.window.spans) == 0 {
			return nil
		}
		f.rest()
		if ctx.Err() == nil {
			timer.Reset(f.dispatch(soft, hard, &busy, results))
			f.ask(ask)
		}
		select {
		case h := <-read:
			f.reading = false
			switch {
			case errors.Is(h.err, ErrEnd):
				f.ended = true
			case h.err != nil && ctx.Err() == nil:
				return &CursorError{f.o.Name, fmt.Errorf("read the next batch: %w", h.err)}
			case h.err == nil:
				f.accept(&h.span)
			}
		case r := <-results:
			f.flying--
			r.parcel.flying = false
			f.settle(hard, &r)
		case <-timer.C:
		case <-done(ctx, f.flying):
		}
	}
}

// done is closed when ctx has ended, as long as nothing is under way that is
// waited for anyhow.
func done(ctx context.Context, flying int) <-chan struct{} {
	if ctx.Err() != nil && flying > 0 {
		return nil
	}
	return ctx.Done()
}

// handed is an answer of the cursor.
type handed struct {
	span Span
	err  error
}

// read calls Next as often as it is asked to: Next blocks, and what is under
// way must not wait for it.
func (f *Forwarder) read(ctx context.Context, ask <-chan Limits, to chan<- handed) {
	for l := range ask {
		s, err := f.cur.Next(ctx, l)
		to <- handed{s, err}
		if err != nil {
			return
		}
	}
}

// ask has the reader go on if the window has room for another batch. It holds
// as much as may be under way, and as much again that waits.
func (f *Forwarder) ask(reader chan<- Limits) {
	l := f.o.Limits
	l.Events = f.pace.events
	ahead := 2*f.o.Requests - 1
	if f.reading || f.ended || f.window.events > ahead*l.Events || f.window.bytes > ahead*l.Bytes {
		return
	}
	f.reading = true
	reader <- l
}

// accept takes in what the cursor has handed out.
func (f *Forwarder) accept(s *Span) {
	in := f.window.add(s)
	if s.Skipped != SkipNothing {
		return
	}
	selective := len(f.o.Topics) > 0 || f.by != nil || f.o.Select != nil
	for i := range s.Events {
		e := &s.Events[i]
		if selective && !f.wants(&s.Batch, e) {
			in.decide(e.Offset, filtered, nil)
			continue
		}
		f.lanes.add(e, in)
	}
	f.lanes.batch = Batch{Gateway: s.Gateway, Stream: s.Stream, Replay: s.Replay}
}

func (f *Forwarder) wants(b *Batch, e *event.Event) bool {
	return (len(f.o.Topics) == 0 || event.MatchAny(f.o.Topics, e.Topic)) &&
		(f.o.Select == nil || f.o.Select(e)) && (f.by == nil || f.by.Wants(b, e))
}

// book moves the position behind all that is decided from it on.
func (f *Forwarder) book(hard context.Context) error {
	for {
		from, to, o := f.window.decided()
		if from == to {
			return nil
		}
		if err := f.cur.Commit(hard, from, to, o); err != nil {
			return &CursorError{f.o.Name, fmt.Errorf("move the position in %s: %w", f.lanes.batch.Stream, err)}
		}
		f.window.pass(to)
		f.booked(&o)
	}
}
