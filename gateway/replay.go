package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/ops"
	"holdfast/storage"
)

// replayShare bounds the batches of a replay to a sink that takes one batch at
// a time: live delivery waits for one such batch at most.
const replayShare = 100

// runningReplay is a replay at work.
type runningReplay struct {
	*forward.Forwarder
	stop context.CancelFunc
	done chan struct{}
}

// startReplay has a replay go on where it is. Where the sink takes several
// requests it has one of its own beside those of live delivery.
func (d *destination) startReplay(ctx context.Context, id uint64, fail func(error)) {
	r := d.log.Replay(id, event.MatchAny)
	if r == nil {
		return
	}
	o := forward.Options{
		Name: d.config.Name, Topics: selective(d.config.Topics), Timeout: d.config.Timeout, Grace: d.grace, Limits: d.config.Batch,
		Backoff: d.config.Retry, Logger: d.logger.With("replay", id), Rate: r.Rate,
		Select: func(e *event.Event) bool {
			return r.Holds(e) && (len(r.Topics) == 0 || event.MatchAny(r.Topics, e.Topic))
		},
	}
	o.Limits.Linger = 0
	if !d.config.Parallel {
		o.Slots = d.slots
		o.Limits.Events = min(o.Limits.Events, replayShare)
	}
	ctx, stop := context.WithCancel(ctx)
	run := &runningReplay{
		forward.New(&cursor{d.log, r.Stream, r.Cursor, d.config.Name, true}, d.sink, o), stop, make(chan struct{}),
	}
	d.mu.Lock()
	d.replays[id] = run
	d.mu.Unlock()
	d.running.Go(func() {
		defer close(run.done)
		d.run(ctx, run.Forwarder, fail)
		d.mu.Lock()
		delete(d.replays, id)
		d.mu.Unlock()
		if ctx.Err() == nil {
			d.logger.Info("replay is over", "replay", id, "destination", d.config.Name)
		}
		stop()
	})
}

// stopReplay stops a replay if it is at work, and waits for it.
func (d *destination) stopReplay(id uint64) {
	d.mu.Lock()
	run := d.replays[id]
	d.mu.Unlock()
	if run != nil {
		run.stop()
		<-run.done
	}
}

// StartReplay sends a part of a stream once more to a destination.
func (g *Gateway) StartReplay(ctx context.Context, q ops.ReplayQuery) (ops.ReplayStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g.change.Lock()
	defer g.change.Unlock()
	if g.stopped {
		return ops.ReplayStatus{}, errStopping
	}
	if q.Stream == "" {
		q.Stream = streamEvents
	}
	s := g.log.Stream(q.Stream)
	if s == nil {
		return ops.ReplayStatus{}, fmt.Errorf("there is no stream %q; holdfast status lists them", q.Stream)
	}
	d := g.destinations[q.Destination]
	if d == nil {
		return ops.ReplayStatus{}, fmt.Errorf("there is no destination %q in the configuration%s", q.Destination, g.nearDestination(q.Destination))
	}
	for _, f := range q.Topics {
		if err := event.CheckFilter(f); err != nil {
			return ops.ReplayStatus{}, err
		}
	}
	o := storage.ReplayOptions{Destination: q.Destination, Topics: selective(q.Topics), First: q.FromOffset, End: q.ToOffset, Rate: q.Rate}
	if !q.From.IsZero() {
		o.Times.From = event.At(q.From)
	}
	if !q.To.IsZero() {
		o.Times.To = event.At(q.To)
	}
	r, err := s.AddReplay(ctx, o)
	if err != nil {
		return ops.ReplayStatus{}, err
	}
	g.logger.Info("replay begins", "replay", r.ID, "stream", q.Stream, "destination", q.Destination, "offset", r.First, "end", r.End)
	d.startReplay(d.work, r.ID, g.fail)
	for _, st := range g.Replays() {
		if st.ID == r.ID {
			return st, nil
		}
	}
	return ops.ReplayStatus{}, errors.New("the replay is gone")
}

// CancelReplay ends a replay, or takes one that is over off the list.
func (g *Gateway) CancelReplay(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g.change.Lock()
	defer g.change.Unlock()
	if g.stopped {
		return errStopping
	}
	for _, d := range g.destinations {
		d.stopReplay(id)
	}
	found, err := g.log.RemoveReplay(ctx, id)
	if err == nil && !found {
		err = fmt.Errorf("there is no replay %d; holdfast replay list shows them", id)
	}
	return err
}

// Replays returns all replays, oldest first.
func (g *Gateway) Replays() []ops.ReplayStatus {
	all := []ops.ReplayStatus{}
	for _, r := range g.log.Replays() {
		l := r.Ledger
		st := ops.ReplayStatus{
			ID: r.ID, Stream: r.Stream, Destination: r.Destination, Topics: r.Topics, Rate: r.Rate, Created: r.Created.Std(),
			First: r.First, End: r.End, Next: r.Next,
			Sent: l.Delivered, Filtered: l.Filtered, Refused: l.Dead, Missed: l.Dropped + l.Expired, Damaged: l.Damaged,
			Pending: r.End - r.Next, State: ops.ReplayWaiting,
		}
		if r.Times.From != 0 {
			st.From = r.Times.From.Std()
		}
		if r.Times.To != 0 {
			st.To = r.Times.To.Std()
		}
		g.replayState(&st, r.Done())
		all = append(all, st)
	}
	return all
}

// replayState says what a replay is doing.
func (g *Gateway) replayState(st *ops.ReplayStatus, done bool) {
	g.mu.Lock()
	d := g.destinations[st.Destination]
	g.mu.Unlock()
	switch {
	case done:
		st.State = ops.ReplayDone
	case d == nil:
		st.LastError = "the destination is not in the configuration; the replay waits for it"
	default:
		d.mu.Lock()
		run := d.replays[st.ID]
		d.mu.Unlock()
		if run == nil {
			return
		}
		st.State = ops.ReplayRunning
		if s := run.Status(); s.State == forward.Retrying {
			st.State, st.LastError = ops.ReplayRetrying, s.Err
		}
	}
}

// ForgetDestination removes the cursors and replays of a destination that is
// not configured any more.
func (g *Gateway) ForgetDestination(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g.change.Lock()
	defer g.change.Unlock()
	switch {
	case g.stopped:
		return errStopping
	case g.destinations[name] != nil:
		return fmt.Errorf("destination %q is in the configuration; remove it there first, and reload", name)
	}
	any := false
	for _, s := range g.log.Streams() {
		found, err := s.Forget(ctx, name)
		if err != nil {
			return fmt.Errorf("forget destination %q in stream %q: %w", name, s.Name(), err)
		}
		any = any || found
	}
	for _, r := range g.log.Replays() {
		if r.Destination == name {
			if _, err := g.log.RemoveReplay(ctx, r.ID); err != nil {
				return err
			}
			any = true
		}
	}
	if !any {
		return fmt.Errorf("nothing is known of a destination %q%s", name, g.nearDestination(name))
	}
	g.logger.Info("destination forgotten", "destination", name)
	return nil
}

var errStopping = errors.New("the gateway is stopping")

// nearDestination completes a message about a destination that does not exist.
func (g *Gateway) nearDestination(name string) string {
	known := map[string]bool{}
	for n := range g.destinations {
		known[n] = true
	}
	for _, s := range g.log.Streams() {
		for n := range s.Cursors() {
			known[n] = true
		}
	}
	var names []string
	for n := range known {
		names = append(names, n)
	}
	slices.Sort(names)
	if near := config.Nearest(name, names); near != "" {
		return fmt.Sprintf(", did you mean %q?", near)
	}
	if len(names) == 0 {
		return ""
	}
	return "; there are " + strings.Join(names, ", ")
}
