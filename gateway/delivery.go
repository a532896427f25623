package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/storage"
)

// cursor is a storage.Cursor as a forwarder sees it.
type cursor struct {
	log         *storage.Log
	stream      *storage.Stream
	cursor      *storage.Cursor
	destination string
	replay      bool
}

func (c *cursor) Next(ctx context.Context, l forward.Limits) (forward.Span, error) {
	s, err := c.cursor.Next(ctx, storage.ReadLimits{Events: l.Events, Bytes: l.Bytes}, l.Linger)
	if errors.Is(err, storage.ErrEnd) {
		return forward.Span{}, forward.ErrEnd
	}
	span := forward.Span{
		Batch: forward.Batch{Gateway: c.log.Gateway(), Stream: c.stream.Name(), Replay: c.replay, Events: s.Events},
		From:  s.From, To: s.To,
	}
	switch s.Skipped {
	case storage.SkipFiltered:
		span.Skipped = forward.SkipFiltered
	case storage.SkipDamaged:
		span.Skipped = forward.SkipDamaged
	}
	return span, err
}

func (c *cursor) Commit(ctx context.Context, from, to uint64, o forward.Outcome) error {
	return c.cursor.Commit(ctx, from, to, c.outcome(o))
}

// outcome is an outcome with its dead letters. What a replay sends is no dead
// letter if it is refused: the log has it, and whoever asked for the replay
// sees the count. Nor is a dead letter another one, or there would be no end:
// it stays where it is, and the ledger counts it.
func (c *cursor) outcome(o forward.Outcome) storage.Outcome {
	out := storage.Outcome{Delivered: o.Delivered, Filtered: o.Filtered, Damaged: o.Damaged}
	switch {
	case c.replay, c.stream.Name() == streamDead:
		out.Refused = len(o.Dead)
	case len(o.Dead) > 0:
		out.Stream = c.log.Stream(streamDead)
		out.Dead = make([]event.Event, len(o.Dead))
		for i := range o.Dead {
			out.Dead[i] = deadLetter(&o.Dead[i], c.log.Gateway(), c.stream.Name(), c.destination)
		}
	}
	return out
}

// destination is a configured destination at work: one sink, a forwarder for
// each stream, and one for each replay that goes there.
type destination struct {
	config     DestinationConfig
	log        *storage.Log
	logger     *slog.Logger
	grace      time.Duration
	sink       forward.Sink
	slots      forward.Slots // calls of Send under way
	cursors    []*storage.Cursor
	forwarders []*forward.Forwarder
	retries    []*forward.Forwarder // of dead letters that are tried again, as forwarders
	source     forward.Source       // what brings events back; nil if nothing does
	intake     forward.Intake

	work    context.Context // of the forwarders
	stop    context.CancelFunc
	running sync.WaitGroup

	stopSource context.CancelFunc
	sourcing   sync.WaitGroup

	mu      sync.Mutex
	replays map[uint64]*runningReplay
}

func newDestination(log *storage.Log, c DestinationConfig, in forward.Intake, grace time.Duration, logger *slog.Logger) (*destination, error) {
	sink, err := c.New()
	if err != nil {
		return nil, fmt.Errorf("destination %q: %w", c.Name, err)
	}
	d := &destination{
		config: c, log: log, logger: logger, grace: grace, sink: sink, slots: forward.NewSlots(c.Requests), intake: in,
		replays: map[uint64]*runningReplay{},
	}
	if c.NewSource != nil {
		if d.source, err = c.NewSource(); err != nil {
			return nil, errors.Join(fmt.Errorf("destination %q: %w", c.Name, err), sink.Close())
		}
	}
	for _, name := range c.From {
		s := log.Stream(name)
		cur, err := openCursor(log, s, &c)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("destination %q in stream %q: %w", c.Name, name, err), sink.Close())
		}
		d.cursors = append(d.cursors, cur)
		o := forward.Options{
			Name: c.Name, Topics: selective(c.Topics), Timeout: c.Timeout, Grace: grace, Logger: logger, Limits: c.Batch,
			Backoff: c.Retry, Requests: c.Requests, Slots: d.slots,
		}
		live := cursor{log, s, cur, c.Name, false}
		d.forwarders = append(d.forwarders, forward.New(&live, sink, o))
		o.Requests = 1
		d.retries = append(d.retries, forward.New(newRetries(live), sink, o))
	}
	return d, nil
}

// openCursor returns the cursor of a destination in a stream. A new one is on
// disk before anything is forwarded: after a crash it must not begin again at
// another place.
func openCursor(log *storage.Log, s *storage.Stream, c *DestinationConfig) (*storage.Cursor, error) {
	_, known := s.Cursors()[c.Name]
	start := storage.StartNow
	since := c.Start.Since
	if c.Start.Ago > 0 {
		since = log.Now().Std().Add(-c.Start.Ago)
	}
	switch {
	case known:
	case c.Start.Oldest:
		start = storage.StartOldest
	case !since.IsZero():
		offset, err := s.Since(event.At(since))
		if err != nil {
			return nil, err
		}
		start = storage.StartFrom(offset)
	}
	cur := s.Cursor(c.Name, start)
	if topics := selective(c.Topics); topics != nil {
		cur.Select(func(topic string) bool { return event.MatchAny(topics, topic) })
	}
	if known {
		return cur, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := cur.Save(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return cur, nil // the disk is full; it follows as soon as it can
	}
	return cur, err
}

// patience is how long a change of the configuration waits for the disk.
const patience = 5 * time.Second

// selective returns no filters at all for those that select everything.
func selective(topics []string) []string {
	if slices.Contains(topics, "#") {
		return nil
	}
	return topics
}

// start runs the forwarders; an error of the log ends one and is given to fail.
func (d *destination) start(fail func(error)) {
	if d.source != nil {
		ctx, stop := context.WithCancel(context.Background())
		d.stopSource = stop
		d.sourcing.Go(func() {
			if err := d.source.Run(ctx, d.intake); err != nil {
				fail(fmt.Errorf("destination %q: %w", d.config.Name, err))
			}
		})
	}
	d.work, d.stop = context.WithCancel(context.Background())
	for _, f := range slices.Concat(d.forwarders, d.retries) {
		d.running.Go(func() { d.run(d.work, f, fail) })
	}
	for _, r := range d.log.Replays() {
		if r.Destination == d.config.Name && !r.Done() {
			d.startReplay(d.work, r.ID, fail)
		}
	}
}

// run runs one forwarder to its end.
func (d *destination) run(ctx context.Context, f *forward.Forwarder, fail func(error)) {
	if err := f.Run(ctx); err != nil && !errors.Is(err, storage.ErrClosed) {
		fail(err)
	}
}

// silence stops what brings events back, and waits for it.
func (d *destination) silence() {
	if d.stopSource != nil {
		d.stopSource()
	}
	d.sourcing.Wait()
}

// close stops the source and the forwarders, waits for the attempts in flight, and detaches
// the cursors if the destination is not coming back.
func (d *destination) close(detach bool) error {
	d.silence()
	if d.stop != nil {
		d.stop()
	}
	d.running.Wait()
	if detach {
		for _, c := range d.cursors {
			c.Detach()
		}
	}
	return d.sink.Close()
}
