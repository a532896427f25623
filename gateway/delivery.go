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
}

func (c *cursor) Next(ctx context.Context, l forward.Limits) (forward.Batch, error) {
	events, err := c.cursor.Next(ctx, storage.ReadLimits{Events: l.Events, Bytes: l.Bytes}, l.Linger)
	return forward.Batch{Gateway: c.log.Gateway(), Stream: c.stream.Name(), Events: events}, err
}

func (c *cursor) Commit(ctx context.Context, n int, o forward.Outcome) error {
	return c.cursor.Commit(ctx, n, c.outcome(o))
}

func (c *cursor) outcome(o forward.Outcome) storage.Outcome {
	out := storage.Outcome{Delivered: o.Delivered, Filtered: o.Filtered}
	if len(o.Dead) > 0 {
		out.Stream = c.log.Stream(streamDead)
		out.Dead = make([]event.Event, len(o.Dead))
		for i := range o.Dead {
			out.Dead[i] = deadLetter(&o.Dead[i], c.log.Gateway(), c.stream.Name(), c.destination)
		}
	}
	return out
}

// destination is a configured destination at work: one sink, and a forwarder
// for each stream.
type destination struct {
	config     DestinationConfig
	sink       forward.Sink
	cursors    []*storage.Cursor
	forwarders []*forward.Forwarder
	retries    []*forward.Forwarder // of dead letters that are tried again, as forwarders
	source     forward.Source       // what brings events back; nil if nothing does
	intake     forward.Intake

	stop    context.CancelFunc
	running sync.WaitGroup

	stopSource context.CancelFunc
	sourcing   sync.WaitGroup
}

func newDestination(log *storage.Log, c DestinationConfig, in forward.Intake, grace time.Duration, logger *slog.Logger) (*destination, error) {
	sink, err := c.New()
	if err != nil {
		return nil, fmt.Errorf("destination %q: %w", c.Name, err)
	}
	sink = shared(sink)
	d := &destination{config: c, sink: sink, intake: in}
	if c.NewSource != nil {
		if d.source, err = c.NewSource(); err != nil {
			return nil, errors.Join(fmt.Errorf("destination %q: %w", c.Name, err), sink.Close())
		}
	}
	for _, name := range c.From {
		s := log.Stream(name)
		start := storage.StartNow
		if c.Oldest {
			start = storage.StartOldest
		}
		cur := s.Cursor(c.Name, start)
		if topics := selective(c.Topics); topics != nil {
			cur.Select(func(topic string) bool { return event.MatchAny(topics, topic) })
		}
		d.cursors = append(d.cursors, cur)
		o := forward.Options{
			Name: c.Name, Topics: selective(c.Topics), Timeout: c.Timeout, Grace: grace, Logger: logger, Limits: c.Batch,
		}
		live := cursor{log, s, cur, c.Name}
		d.forwarders = append(d.forwarders, forward.New(&live, sink, o))
		d.retries = append(d.retries, forward.New(newRetries(live), sink, o))
	}
	return d, nil
}

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
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	for _, f := range slices.Concat(d.forwarders, d.retries) {
		d.running.Go(func() {
			if err := f.Run(ctx); err != nil && !errors.Is(err, storage.ErrClosed) {
				fail(err)
			}
		})
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

// sharedSink lets the forwarders of several streams take turns with one sink.
type sharedSink struct {
	mu   sync.Mutex
	sink forward.Sink
}

// shared keeps the choice of events where the sink makes one.
func shared(sink forward.Sink) forward.Sink {
	s := &sharedSink{sink: sink}
	if choosy, ok := sink.(forward.Selector); ok {
		return &selectingSink{s, choosy}
	}
	return s
}

type selectingSink struct {
	*sharedSink
	forward.Selector
}

func (s *sharedSink) Send(ctx context.Context, b forward.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sink.Send(ctx, b)
}

func (s *sharedSink) Close() error { return s.sink.Close() }
