package gateway

import (
	"context"
	"errors"
	"sync"

	"holdfast/gateway/event"
	"holdfast/storage"
)

// router shows to MQTT subscribers what is on disk: one pass over every
// stream, from its end at the start, in log order. Subscribers never hold it
// up; the broker queues or drops for each of them.
type router struct {
	log   *storage.Log
	route func([]event.Event)
	mu    sync.Mutex // streams take turns: the broker routes one batch at a time
}

// follow routes one stream until ctx ends or the log fails.
func (r *router) follow(ctx context.Context, s *storage.Stream, next uint64) {
	reader := s.Reader(false)
	for {
		if s.Wait(ctx, next, false) != nil {
			return
		}
		events, err := reader.Read(next, storage.ReadLimits{Events: 4096, Bytes: 4 << 20})
		var trimmed *storage.TrimmedError
		var damaged *storage.DamagedError
		switch {
		case errors.As(err, &trimmed):
			next = trimmed.First
			continue
		case errors.As(err, &damaged):
			next = damaged.Next
			continue
		case err != nil:
			return
		}
		if len(events) == 0 {
			continue
		}
		next = events[len(events)-1].Offset + 1
		r.mu.Lock()
		r.route(events)
		r.mu.Unlock()
	}
}
