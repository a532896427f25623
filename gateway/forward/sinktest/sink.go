package sinktest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
)

// Sink answers as a test tells it and remembers what it was sent. The zero
// value accepts everything. It may be used by several goroutines.
type Sink struct {
	// Answer decides about an attempt; the first has number 1. It may wait
	// for ctx. Events that a [forward.PartialError] does not name count as
	// accepted.
	Answer func(ctx context.Context, attempt int, b forward.Batch) error

	mu       sync.Mutex
	attempts []Attempt
	accepted []event.Event
	closed   bool
}

var _ forward.Sink = (*Sink)(nil)

// Attempt is one call of Send.
type Attempt struct {
	At          time.Time
	Events      int
	First, Last uint64 // offsets
	Err         error
}

// Send asks Answer.
func (s *Sink) Send(ctx context.Context, b forward.Batch) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.New("sinktest: send after close")
	}
	n := len(s.attempts)
	s.attempts = append(s.attempts, Attempt{
		At: time.Now(), Events: len(b.Events),
		First: b.Events[0].Offset, Last: b.Events[len(b.Events)-1].Offset,
	})
	s.mu.Unlock()

	var err error
	if s.Answer != nil {
		err = s.Answer(ctx, n+1, b)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[n].Err = err
	var partial *forward.PartialError
	switch {
	case err == nil:
		s.accepted = append(s.accepted, b.Events...)
	case errors.As(err, &partial):
		for i := range b.Events {
			if partial.Refused[i] == nil {
				s.accepted = append(s.accepted, b.Events[i])
			}
		}
	}
	return err
}

// Close makes further calls of Send fail.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// Attempts returns all calls of Send so far.
func (s *Sink) Attempts() []Attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.attempts)
}

// Accepted returns the events that were accepted, in that order.
func (s *Sink) Accepted() []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.accepted)
}
