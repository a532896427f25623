package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/gateway/event"
)

// result is how an attempt ended.
type result struct {
	parcel *parcel
	n      int // events that it sent, the first ones of the parcel
	size   int // of them
	cut    bool
	began  time.Time
	took   time.Duration
	err    error
	idle   bool // nothing was sent: the forwarder is stopping
}

// never is longer than anything waits.
const never = 24 * time.Hour

// dispatch starts the attempts that may be made now, and returns after what
// time there may be others though nothing has happened.
func (f *Forwarder) dispatch(soft, hard context.Context, busy *sync.WaitGroup, results chan<- result) time.Duration {
	now := time.Now()
	most := f.o.Requests
	if f.failures > 0 || f.barren > 1 {
		most = 1 // until the destination is known to be well, it is asked with one request at a time
	}
	for f.flying < most {
		if wait := f.until.Sub(now); wait > 0 {
			return wait
		}
		p, wait := f.ready(now)
		if p == nil {
			return wait
		}
		f.launch(soft, hard, p, now, busy, results)
	}
	return never
}

// ready returns the parcel that is next, or after what time one that is held
// back may be: a new one before those that have failed, and of these the one
// that has failed least. So a batch that alone cannot pass is told from a
// destination that is away: what the window holds of other keys goes on.
func (f *Forwarder) ready(now time.Time) (*parcel, time.Duration) {
	wait := never
	var again *parcel
	for _, p := range f.parcels {
		switch pause := p.notBefore.Sub(now); {
		case p.flying:
		case pause > 0:
			wait = min(wait, pause)
		case again == nil || p.failures < again.failures:
			again = p
		}
	}
	if again != nil && again.failures == 0 {
		return again, 0
	}
	if p := f.form(); p != nil {
		return p, 0
	}
	return again, wait
}

// form makes a new parcel; nil if there is nothing for one.
func (f *Forwarder) form() *parcel {
	events, bytes := f.pace.events, f.o.Limits.Bytes
	if f.o.Rate > 0 {
		events = max(1, min(events, f.o.Rate/4))
	}
	if f.pace.room > 0 {
		bytes = min(bytes, max(f.pace.room, 1))
	}
	backlog := f.window.events > events // more than one request can carry
	p := f.lanes.take(events, bytes, backlog)
	if p == nil {
		return nil
	}
	at, _ := slices.BinarySearchFunc(f.parcels, p.first(), func(p *parcel, offset uint64) int {
		return cmp.Compare(p.first(), offset)
	})
	f.parcels = slices.Insert(f.parcels, at, p)
	return p
}

// launch sends the next events of a parcel.
func (f *Forwarder) launch(soft, hard context.Context, p *parcel, now time.Time, busy *sync.WaitGroup, results chan<- result) {
	r := result{parcel: p}
	r.n, r.size, r.cut = p.pick(f.pace.room)
	r.cut = r.cut || p.cut && r.n == len(p.events)
	b := f.lanes.batch
	b.Events = p.events[:r.n:r.n]
	p.flying = true
	f.flying++
	if f.o.Rate > 0 {
		f.until = now.Add(time.Duration(r.n) * time.Second / time.Duration(f.o.Rate))
	}
	f.sending()
	busy.Go(func() {
		select {
		case f.o.Slots <- struct{}{}:
			r.began = time.Now()
			r.err = f.send(hard, b)
			r.took = time.Since(r.began)
			<-f.o.Slots
		case <-soft.Done():
			r.idle = true
		}
		results <- r
	})
}

func (f *Forwarder) send(hard context.Context, b Batch) error {
	ctx, cancel := context.WithTimeout(hard, f.o.Timeout)
	defer cancel()
	err := f.sink.Send(ctx, b)
	switch {
	case err != nil && hard.Err() != nil:
		// Whatever the sink made of being interrupted, it is no verdict.
		return fmt.Errorf("interrupted by the shutdown: %w", context.Cause(hard))
	case err != nil && errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return &timeoutError{f.o.Timeout}
	}
	return err
}

// timeoutError says that the far side has not answered.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("no answer within %v: is the destination reachable, and the timeout long enough?", e.after)
}

// settle does what the sink's answer asks for: it decides the fates of events,
// narrows the next attempt of their parcel, or has it wait.
func (f *Forwarder) settle(hard context.Context, r *result) {
	p, now := r.parcel, time.Now()
	last := p.events[r.n-1].Offset
	first := event.At(r.began)
	var partial *PartialError
	switch {
	case r.idle:

	case r.err == nil:
		f.pace.through(r.n, r.size, p.full && r.n == len(p.events) || r.cut, r.cut, r.took, now)
		f.pace.fits(f.o.Limits.Bytes)
		f.pass(r, nil)

	case errors.As(r.err, &partial) && partial.within(r.n):
		dead := map[int]*DeadLetter{}
		for i, why := range partial.Refused {
			dead[i] = p.deadLetter(i, "refused", why, first)
		}
		f.pass(r, dead)

	case IsTooLarge(r.err) && r.n > 1:
		f.pace.tooLarge(r.size, now)
		p.tries.add(last, first)

	case IsPermanent(r.err) && r.n > 1:
		p.suspect = last
		p.tries.add(last, first)

	case IsTooLarge(r.err), IsPermanent(r.err):
		reason := "refused"
		if IsTooLarge(r.err) {
			reason = "too_large"
		}
		f.pass(r, map[int]*DeadLetter{0: p.deadLetter(0, reason, r.err, first)})

	case hard.Err() == nil:
		p.tries.add(last, first)
		f.fault(r, now)
	}
	f.idle()
}

// pass settles the events of an attempt that are not to be sent again.
func (f *Forwarder) pass(r *result, dead map[int]*DeadLetter) {
	p := r.parcel
	p.failures, p.timeouts, p.notBefore = 0, 0, time.Time{}
	if len(dead) > 0 {
		p.suspect = 0 // the culprit is found, what follows is judged afresh
		f.barren++
		if until := time.Now().Add(f.cooling()); until.After(f.until) {
			f.until = until
		}
	}
	if len(dead) < r.n {
		f.barren = 0
		f.accepted(r)
	}
	f.recovered(r)
	for _, d := range dead {
		f.buried(f.lanes.batch.Stream, d)
	}
	p.pass(r.n, dead)
	if len(p.events) == 0 {
		f.lanes.settled(p)
		f.parcels = slices.DeleteFunc(f.parcels, func(o *parcel) bool { return o == p })
	}
}

// cooling returns the pause after a dead letter: none, unless the far side
// refuses event after event. That is a mistake in the settings more often than
// in every event, so the backlog must not rush into dead letters.
func (f *Forwarder) cooling() time.Duration {
	if f.barren < 2 {
		return 0
	}
	b := f.o.Backoff
	b.Cap = min(b.Cap, time.Second)
	b.Base = min(b.Base, b.Cap)
	return b.pause(f.barren - 1)
}

// fault keeps the parcel for another attempt after a fault of the destination.
// Of several attempts that were under way at once only the first is counted:
// they met the same fault.
func (f *Forwarder) fault(r *result, now time.Time) {
	p := r.parcel
	p.failures++
	p.timeouts++
	if !errors.As(r.err, new(*timeoutError)) {
		p.timeouts = 0
	}
	// The first time the same batch is sent again, so that a far side that
	// was only late can recognize it; then it is too much for the link.
	if p.timeouts > 1 && r.n > 1 {
		p.most = r.n / 2
		f.pace.timedOut(r.n)
	}
	if f.failures == 0 || !r.began.Before(f.failedAt) {
		f.failures++
		f.failedAt = now
		f.until = now.Add(f.o.Backoff.after(f.failures, r.err))
	}
	p.notBefore = f.until
	if p.failures > f.failures { // other batches pass, this one does not
		p.notBefore = now.Add(f.o.Backoff.after(p.failures, r.err))
	}
	f.failed(r)
}

func (p *parcel) deadLetter(i int, reason string, why error, first event.Time) *DeadLetter {
	e := &p.events[i]
	attempts, earliest := p.tries.of(e.Offset)
	if attempts > 0 {
		first = earliest
	}
	return &DeadLetter{
		Event: *e, Reason: reason, Err: why.Error(), Attempts: attempts + 1, First: first, Last: event.At(time.Now()),
	}
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
