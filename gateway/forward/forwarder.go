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
	Limits  Limits        // of one batch; zero means 500 events and 1 MiB
	Timeout time.Duration // of one Send; zero means 30 s
	Grace   time.Duration // for the attempt in flight after ctx ends; zero means 5 s, negative none
	Backoff Backoff
	Logger  *slog.Logger // nil means slog.Default
}

// Forwarder moves one [Cursor] along its stream by sending what it passes to
// one [Sink]. Events are delivered at least once and in offset order; the
// position moves only behind events that the sink accepted, that the topic
// filters or the sink itself ([Selector]) leave out, or that became dead
// letters.
//
// What the sink's error says decides what happens next. A fault of the
// destination keeps the batch and sends it again, for ever. [TooLarge] halves
// the batch, and later ones grow back slowly. [Permanent] halves the suspect
// run until the offending event was refused alone; only that one becomes a
// dead letter. Step and Run belong to one goroutine; Status to any.
type Forwarder struct {
	cur  Cursor
	sink Sink
	by   Selector // the sink, if it selects events itself
	o    Options
	log  *slog.Logger

	again   int    // size of the cursor's batch to ask for once more, 0 for a new one
	suspect uint64 // last offset of a run from the position that was refused, 0 if none
	room    int    // bytes that a batch may have since one was too large, 0 for no limit
	tries   trail  // failed attempts that events at the position took part in

	failures int // attempts in a row that the destination failed
	barren   int // dead letters in a row with nothing delivered between them
	lastErr  string
	lastDead string
	since    time.Time // of the first of the failures

	wanted []event.Event // selected events of the batch, reused
	at     []int         // their indexes in the cursor's batch

	mu     sync.Mutex
	status Status
}

// New returns a forwarder from cur to sink. It does nothing until Step or Run.
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
	o.Backoff = o.Backoff.withDefaults()
	by, _ := sink.(Selector)
	return &Forwarder{
		cur: cur, sink: sink, by: by, o: o,
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

// Run repeats [Forwarder.Step] until ctx ends and then returns nil, after the
// attempt in flight is over. It pauses after each failed attempt as
// [Options.Backoff] says, or as long as the far side asked for. It returns
// early only with a [*CursorError].
func (f *Forwarder) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		_, err := f.Step(ctx)
		var pause time.Duration
		var log *CursorError
		switch {
		case err == nil:
			pause = f.cooling()
		case errors.As(err, &log):
			return err
		default:
			pause = f.o.Backoff.after(f.failures, err)
		}
		if pause > 0 && ctx.Err() == nil {
			f.mu.Lock()
			f.status.NextAttempt = time.Now().Add(pause)
			f.mu.Unlock()
			sleep(ctx, pause)
		}
	}
	return nil
}

// cooling returns the pause after a batch that went through: none, unless the
// far side refuses event after event. That is a mistake in the settings more
// often than in every event, so the backlog must not rush into dead letters.
func (f *Forwarder) cooling() time.Duration {
	if f.barren < 2 {
		return 0
	}
	b := f.o.Backoff
	b.Cap = min(b.Cap, time.Second)
	b.Base = min(b.Base, b.Cap)
	return b.pause(f.barren - 1)
}

// Step moves the position by one batch without sleeping and returns how many
// events were delivered. It waits for events until ctx ends; the attempt in
// flight may then take [Options.Grace] longer. It sends more than once only to
// narrow down what was too large or refused, and returns as soon as the
// position has moved or the destination has failed: the next Step then tries
// the same batch again.
func (f *Forwarder) Step(ctx context.Context) (sent int, err error) {
	hard, stop := graceful(ctx, f.o.Grace)
	defer stop()
	for {
		b, err := f.next(ctx)
		if err != nil {
			return 0, err
		}
		r := f.pick(b)
		if len(r.Events) == 0 {
			return 0, f.pass(hard, r, Outcome{Filtered: r.passed})
		}
		first := event.At(time.Now())
		err = f.send(hard, r.Batch)
		sent, moved, err := f.settle(hard, r, first, err)
		if moved || err != nil {
			return sent, err
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

// next returns the cursor's batch: the same one after a failure, so that the
// far side can recognize it, and without lingering while events are known to
// wait.
func (f *Forwarder) next(ctx context.Context) (Batch, error) {
	if ctx.Err() != nil {
		return Batch{}, ctx.Err()
	}
	l := f.o.Limits
	if f.again > 0 {
		l.Events = f.again
	}
	if f.again > 0 || f.suspect != 0 {
		l.Linger = 0
	}
	b, err := f.cur.Next(ctx, l)
	switch {
	case err != nil && ctx.Err() != nil:
		return b, ctx.Err()
	case err != nil:
		return b, &CursorError{f.o.Name, fmt.Errorf("read the next batch: %w", err)}
	case len(b.Events) == 0:
		return b, &CursorError{f.o.Name, errors.New("read the next batch: it is empty")}
	}
	return b, nil
}

// run is the part of the cursor's batch that one attempt sends.
type run struct {
	Batch
	whole  int  // events of the cursor's batch
	passed int  // of these, how many lie behind the position once the run is through
	size   int  // of the events, by event.Size
	cut    bool // room ended the run
}

func (r *run) last() *event.Event { return &r.Events[len(r.Events)-1] }

// pick selects what the next attempt sends: the events that the destination
// wants, but no more than half of a suspect run, and no more than fits.
func (f *Forwarder) pick(b Batch) run {
	r := run{Batch: b, whole: len(b.Events), passed: len(b.Events)}
	selective := len(f.o.Topics) > 0 || f.by != nil
	if selective {
		f.wanted, f.at = f.wanted[:0], f.at[:0]
		for i := range b.Events {
			if f.wants(&b, &b.Events[i]) {
				f.wanted = append(f.wanted, b.Events[i])
				f.at = append(f.at, i)
			}
		}
		r.Events = f.wanted
	}

	n := len(r.Events)
	if f.suspect != 0 {
		n = 0
		for n < len(r.Events) && r.Events[n].Offset <= f.suspect {
			n++
		}
		if n == 0 { // the position is past it
			f.suspect = 0
			n = len(r.Events)
		} else {
			n = (n + 1) / 2
		}
	}
	for i := range n {
		size := r.Events[i].Size()
		if f.room > 0 && i > 0 && r.size+size > f.room {
			n, r.cut = i, true
			break
		}
		r.size += size
	}
	if n < len(r.Events) {
		r.passed = n
		if selective {
			r.passed = f.at[n]
		}
		r.Events = r.Events[:n]
	}
	return r
}

func (f *Forwarder) wants(b *Batch, e *event.Event) bool {
	return (len(f.o.Topics) == 0 || event.MatchAny(f.o.Topics, e.Topic)) && (f.by == nil || f.by.Wants(b, e))
}

func (f *Forwarder) send(hard context.Context, b Batch) error {
	ctx, cancel := context.WithTimeout(hard, f.o.Timeout)
	defer cancel()
	f.mu.Lock()
	if f.failures == 0 {
		f.status.State = Sending
	}
	f.status.NextAttempt = time.Time{}
	f.mu.Unlock()

	err := f.sink.Send(ctx, b)
	switch {
	case err != nil && hard.Err() != nil:
		// Whatever the sink made of being interrupted, it is no verdict.
		return fmt.Errorf("interrupted by the shutdown: %w", context.Cause(hard))
	case err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return fmt.Errorf("no answer within %v: is the destination reachable, and the timeout long enough?", f.o.Timeout)
	}
	return err
}

// settle does what the sink's answer to r asks for. It moves the position,
// narrows the next attempt, or returns the fault of the destination.
func (f *Forwarder) settle(hard context.Context, r run, first event.Time, err error) (sent int, moved bool, _ error) {
	n := len(r.Events)
	var partial *PartialError
	switch {
	case err == nil:
		o := Outcome{Delivered: n, Filtered: r.passed - n}
		return n, true, f.pass(hard, r, o)

	case errors.As(err, &partial) && partial.within(n):
		o := Outcome{Delivered: n - len(partial.Refused), Filtered: r.passed - n}
		for i := range r.Events {
			if why, refused := partial.Refused[i]; refused {
				o.Dead = append(o.Dead, f.deadLetter(&r.Events[i], "refused", why, first))
			}
		}
		return o.Delivered, true, f.pass(hard, r, o)

	case IsTooLarge(err) && n > 1:
		f.room = r.size / 2
		f.tries.add(r.last().Offset, first)
		return 0, false, nil

	case IsPermanent(err) && n > 1:
		f.suspect = r.last().Offset
		f.tries.add(r.last().Offset, first)
		return 0, false, nil

	case IsTooLarge(err), IsPermanent(err):
		reason := "refused"
		if IsTooLarge(err) {
			reason = "too_large"
		}
		dead := f.deadLetter(&r.Events[0], reason, err, first)
		return 0, true, f.pass(hard, r, Outcome{Filtered: r.passed - 1, Dead: []DeadLetter{dead}})
	}
	f.again = r.whole
	f.tries.add(r.last().Offset, first)
	if hard.Err() == nil {
		f.failed(&r, err)
	}
	return 0, false, fmt.Errorf("destination %q: %s %d–%d: %w",
		f.o.Name, r.Stream, r.Events[0].Offset, r.last().Offset, err)
}

// pass books the outcome of r and moves the position behind it.
func (f *Forwarder) pass(hard context.Context, r run, o Outcome) error {
	err := f.cur.Commit(hard, r.passed, o)
	switch {
	case err != nil && hard.Err() != nil:
		return fmt.Errorf("destination %q: interrupted by the shutdown: %w", f.o.Name, err)
	case err != nil:
		return &CursorError{f.o.Name, fmt.Errorf("move the position in %s: %w", r.Stream, err)}
	}
	f.again = 0
	if len(r.Events) == 0 {
		f.book(&r, o)
		return nil
	}
	if len(o.Dead) > 0 {
		f.suspect = 0 // the culprit is found, what follows is judged afresh
		f.barren++
	}
	if o.Delivered > 0 {
		f.barren = 0
	}
	if r.cut {
		f.room += f.room/8 + 1
		if f.room >= f.o.Limits.Bytes {
			f.room = 0
		}
	}
	f.tries.pass(r.last().Offset)
	f.book(&r, o)
	f.recovered(&r)
	for i := range o.Dead {
		f.buried(r.Stream, &o.Dead[i])
	}
	return nil
}

func (f *Forwarder) deadLetter(e *event.Event, reason string, why error, first event.Time) DeadLetter {
	last := event.At(time.Now())
	attempts, earliest := f.tries.of(e.Offset)
	if attempts > 0 {
		first = earliest
	}
	return DeadLetter{Event: *e, Reason: reason, Err: why.Error(), Attempts: attempts + 1, First: first, Last: last}
}

// within reports whether every index of the refused events lies in a batch of
// n. If not, nobody knows what the far side refused, and the batch must stay.
func (e *PartialError) within(n int) bool {
	for i := range e.Refused {
		if i < 0 || i >= n {
			return false
		}
	}
	return true
}
