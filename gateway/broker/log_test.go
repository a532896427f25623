package broker

import (
	"sync"
	"time"

	"holdfast/gateway/event"
)

// memStream is a stream of the log in memory.
type memStream struct {
	name string
	feed *Feed

	mu     sync.Mutex
	first  uint64 // the oldest offset that is there
	events []event.Event
	routes sync.Mutex
}

func newMemStream(name string) *memStream { return &memStream{name: name, first: 1} }

func (s *memStream) Name() string { return s.name }

func (s *memStream) Scanner(func(string) bool) Scanner { return s }
func (s *memStream) Retained() Scanner                 { return s }

func (s *memStream) Read(offset uint64) ([]event.Event, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	offset = max(offset, s.first)
	end := uint64(len(s.events)) + 1
	if offset >= end {
		return nil, offset, nil
	}
	to := min(offset+100, end)
	return s.events[offset-1 : to-1 : to-1], to, nil
}

// add appends events without routing them.
func (s *memStream) add(events []event.Event) []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := len(s.events)
	for _, e := range events {
		e.Offset = uint64(len(s.events) + 1)
		if e.Received == 0 {
			e.Received = event.At(time.Now())
		}
		s.events = append(s.events, e)
	}
	return s.events[from:len(s.events):len(s.events)]
}

// trim removes the events below offset, as retention does.
func (s *memStream) trim(offset uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first = offset
}

// route appends events to the log of the broker and routes them.
func route(b *Broker, events []event.Event) {
	s := b.feeds()[0].stream.(*memStream)
	s.routes.Lock()
	defer s.routes.Unlock()
	s.feed.Route(s.add(events))
}

// memState is a State in memory. What is put is there at once, and done is
// called from another goroutine, as a committer would.
type memState struct {
	mu      sync.Mutex
	entries map[string][]byte
	puts    chan func()
	frozen  bool // what is put from now on does not survive
}

func newMemState() *memState {
	s := &memState{entries: map[string][]byte{}, puts: make(chan func(), 10000)}
	go func() {
		for f := range s.puts {
			f()
		}
	}()
	return s
}

func (s *memState) Load(fn func(string, []byte) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.entries {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *memState) Put(entries []Entry, _ bool, done func(error)) error {
	s.puts <- func() {
		s.mu.Lock()
		for _, e := range entries {
			if s.frozen {
				break
			}
			if e.Value == nil {
				delete(s.entries, e.Key)
			} else {
				s.entries[e.Key] = e.Value
			}
		}
		s.mu.Unlock()
		done(nil)
	}
	return nil
}

// freeze makes a copy of what is on disk now, as kill -9 would.
func (s *memState) freeze() *memState {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = true
	c := newMemState()
	for k, v := range s.entries {
		c.entries[k] = v
	}
	return c
}
