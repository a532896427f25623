package gateway

import (
	"context"
	"errors"

	"holdfast/gateway/broker"
	"holdfast/storage"
)

// router shows to MQTT subscribers what is on disk: one pass over every
// stream, from its end at the start, in log order. Subscribers never hold it
// up: those who do not keep up read the log for themselves.
type router struct {
	broker *broker.Broker
}

// begin makes a stream known to the broker, from its end on: what is before
// that, the sessions that have not had it read from the log.
func (r *router) begin(s *storage.Stream) (f *broker.Feed, next uint64) {
	_, next, _ = s.Bounds()
	return r.broker.Follow(mqttStream{s}, next), next
}

// follow routes one stream until ctx ends or the log fails.
func (r *router) follow(ctx context.Context, s *storage.Stream, f *broker.Feed, next uint64) {
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
			f.Skip(next)
			continue
		case errors.As(err, &damaged):
			next = damaged.Next
			f.Skip(next)
			continue
		case err != nil:
			return
		}
		if len(events) == 0 {
			continue
		}
		next = events[len(events)-1].Offset + 1
		f.Route(events)
	}
}

// mqttStream is a stream of the log as sessions of the broker read it.
type mqttStream struct{ *storage.Stream }

func (s mqttStream) Scanner(wants func(topic string) bool) broker.Scanner {
	return s.Stream.Scanner(wants)
}

func (s mqttStream) Retained() broker.Scanner { return s.RetainedScanner() }

// mqttState keeps what the broker has to keep in a table of the log.
type mqttState struct{ log *storage.Log }

const mqttTable = "mqtt"

func (s mqttState) Load(fn func(key string, value []byte) error) error {
	return s.log.Table(mqttTable, fn)
}

func (s mqttState) Put(entries []broker.Entry, hurry bool, done func(error)) error {
	all := make([]storage.Entry, len(entries))
	for i, e := range entries {
		all[i] = storage.Entry(e)
	}
	return s.log.Put(mqttTable, all, hurry, done)
}
