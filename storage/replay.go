package storage

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"sort"

	"holdfast/gateway/event"
)

// ReplayOptions say what is to be sent once more, and where.
type ReplayOptions struct {
	Destination string   `json:"destination"`
	Topics      []string `json:"topics,omitempty"` // filters; none selects all
	Times       Times    `json:"times"`
	// Offsets [First, End) bound it as well; 0 is no bound. Without one a
	// replay ends with what was on disk when it was made.
	First uint64 `json:"first"`
	End   uint64 `json:"end"`
	// Rate is how many events a second are sent at most; 0 is no limit.
	Rate int `json:"rate,omitempty"`
}

// replayState is what makes a cursor a replay.
type replayState struct {
	ReplayOptions
	ID      uint64     `json:"id"`
	Stream  string     `json:"stream"`
	Created event.Time `json:"created"`
}

// storedReplay is the value of the key "y id".
type storedReplay struct {
	replayState
	State cursorState `json:"state"`
}

// Replay is a second cursor over a part of a stream, with an end and with
// counts of its own: what it sends is in nobody's ledger. It holds up no
// retention; what is removed before it comes by is counted as dropped.
type Replay struct {
	*Cursor
	ReplayOptions
	ID     uint64
	Stream *Stream
}

// ReplayStatus is a replay as the operator sees it. Of the events [First, End)
// it has passed those before Next, as Ledger says.
type ReplayStatus struct {
	ReplayOptions
	ID      uint64
	Stream  string
	Created event.Time
	Next    uint64
	Ledger  Ledger
}

// Done reports whether nothing is left to send.
func (r *ReplayStatus) Done() bool { return r.Next >= r.End }

// keptReplays is how many replays that are over stay to be looked at.
const keptReplays = 20

// AddReplay makes a replay over the stream and returns when it is on disk.
func (s *Stream) AddReplay(ctx context.Context, o ReplayOptions) (*Replay, error) {
	from, end, err := s.between(o.Times)
	if err != nil {
		return nil, fmt.Errorf("search stream %q: %w", s.name, err)
	}
	first, durable, _ := s.Bounds()
	o.First = max(o.First, from, first)
	if o.End == 0 {
		o.End = durable
	}
	o.End = max(min(o.End, end, durable), o.First)

	l := s.log
	l.mu.Lock()
	l.lastReplay++
	st := replayState{o, l.lastReplay, s.name, l.Now()}
	l.mu.Unlock()
	s.mu.Lock()
	c := s.newReplay(st, cursorState{Next: o.First})
	s.replays[st.ID] = c
	s.mu.Unlock()
	if err := c.Save(ctx); err != nil {
		return nil, err
	}
	l.tidyReplays()
	return &Replay{c, o, st.ID, s}, nil
}

// newReplay makes the cursor of a replay. The caller holds s.mu.
func (s *Stream) newReplay(st replayState, at cursorState) *Cursor {
	c := &Cursor{
		stream: s, name: st.Destination, key: replayKey(st.ID), replay: &st, saved: at, reader: s.Reader(false),
	}
	c.restore()
	return c
}

// loadReplays reads the replays that are under way.
func (l *Log) loadReplays() error {
	return l.scan([]byte{keyReplay}, func(k, v []byte) error {
		var stored storedReplay
		if err := json.Unmarshal(v, &stored); err != nil || len(k) != 9 {
			l.note("replay %x cannot be read: %v", k[1:], err)
			return nil
		}
		stored.ID = binary.BigEndian.Uint64(k[1:])
		l.lastReplay = max(l.lastReplay, stored.ID)
		if s := l.streams[stored.Stream]; s != nil {
			s.replays[stored.ID] = s.newReplay(stored.replayState, stored.State)
		}
		return nil
	})
}

// Replay returns the replay of that number, at the place that is booked; nil
// if there is none. matches says which topics it selects.
func (l *Log) Replay(id uint64, matches func(filters []string, topic string) bool) *Replay {
	for _, s := range l.Streams() {
		s.mu.Lock()
		c := s.replays[id]
		if c == nil {
			s.mu.Unlock()
			continue
		}
		c.rewind()
		o := c.replay.ReplayOptions
		c.selection = &selection{times: o.Times, known: map[uint32]bool{}}
		if len(o.Topics) > 0 {
			filters := slices.Clone(o.Topics)
			c.selection.wants = func(topic string) bool { return matches(filters, topic) }
		}
		s.mu.Unlock()
		return &Replay{c, o, id, s}
	}
	return nil
}

// Holds reports whether the replay selects an event by its receive time.
func (r *Replay) Holds(e *event.Event) bool { return r.Times.holds(e.Received) }

// Replays returns all replays, oldest first; the last ones that are over too.
func (l *Log) Replays() (all []ReplayStatus) {
	for _, s := range l.Streams() {
		s.mu.Lock()
		for id, c := range s.replays {
			all = append(all, ReplayStatus{
				c.replay.ReplayOptions, id, s.name, c.replay.Created, min(c.pos, c.replay.End), c.saved.Ledger,
			})
		}
		s.mu.Unlock()
	}
	sort.Slice(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return all
}

// RemoveReplay forgets a replay and returns when that is on disk. It reports
// whether there was one. Nobody may use it any more.
func (l *Log) RemoveReplay(ctx context.Context, id uint64) (bool, error) {
	found := false
	for _, s := range l.Streams() {
		s.mu.Lock()
		found = found || s.replays[id] != nil
		delete(s.replays, id)
		s.mu.Unlock()
	}
	if !found {
		return false, nil
	}
	return true, l.submitAndWait(ctx, &request{hurry: true, sets: []keyValue{{replayKey(id), nil}}})
}

// tidyReplays forgets the oldest of many replays that are over.
func (l *Log) tidyReplays() {
	var over []uint64
	for _, r := range l.Replays() {
		if r.Done() {
			over = append(over, r.ID)
		}
	}
	for len(over) > keptReplays {
		// What is not removed now will be the next time.
		_, _ = l.RemoveReplay(context.Background(), over[0])
		over = over[1:]
	}
}
