package gateway

import (
	"context"
	"errors"
	"fmt"

	"holdfast/gateway/event"
	"holdfast/gateway/ops"
	"holdfast/storage"
)

// Tail sends the events that the query selects, then those that follow.
func (g *Gateway) Tail(ctx context.Context, q ops.TailQuery, send func(ops.Item) error) error {
	if q.Stream == "" {
		q.Stream = streamEvents
	}
	if q.Filter == "" {
		q.Filter = "#"
	}
	if err := event.CheckFilter(q.Filter); err != nil {
		return err
	}
	s := g.log.Stream(q.Stream)
	if s == nil {
		return fmt.Errorf("there is no stream %q; holdfast status lists them", q.Stream)
	}
	reader := s.Reader(false)
	first, next, _ := s.Bounds()
	switch {
	case q.From > 0:
		next = q.From
	case q.Last > 0:
		var err error
		if next, err = newest(reader, q, first, next); err != nil {
			return err
		}
	}
	for {
		if err := s.Wait(ctx, next, false); err != nil {
			return err
		}
		events, err := readOn(reader, &next)
		if err != nil {
			return err
		}
		for i := range events {
			if event.Match(q.Filter, events[i].Topic) {
				if err := send(ops.NewItem(g.config.Load().Gateway, q.Stream, &events[i])); err != nil {
					return err
				}
			}
		}
	}
}

// readOn reads at *next and moves it, also over what is gone.
func readOn(r *storage.Reader, next *uint64) ([]event.Event, error) {
	events, err := r.Read(*next, storage.ReadLimits{Events: 500, Bytes: 1 << 20})
	var trimmed *storage.TrimmedError
	var damaged *storage.DamagedError
	switch {
	case errors.As(err, &trimmed):
		*next = trimmed.First
		return nil, nil
	case errors.As(err, &damaged):
		*next = damaged.Next
		return nil, nil
	case err != nil:
		return nil, err
	}
	if len(events) > 0 {
		*next = events[len(events)-1].Offset + 1
	}
	return events, nil
}

// newest returns the offset from which on the query selects its last events:
// it looks back in steps that double.
func newest(r *storage.Reader, q ops.TailQuery, first, end uint64) (uint64, error) {
	for back := uint64(q.Last); ; back *= 2 {
		from := first
		if end > first+back {
			from = end - back
		}
		var at []uint64
		for next := from; next < end; {
			events, err := readOn(r, &next)
			if err != nil {
				return 0, err
			}
			for i := range events {
				if events[i].Offset < end && event.Match(q.Filter, events[i].Topic) {
					at = append(at, events[i].Offset)
				}
			}
		}
		if len(at) >= q.Last {
			return at[len(at)-q.Last], nil
		}
		if from == first {
			return from, nil
		}
	}
}
