package storage

import "holdfast/gateway/event"

// CursorStatus is a cursor as the operator sees it.
type CursorStatus struct {
	Name     string
	Attached bool
	Next     uint64
	Appended uint64 // events of the stream since its beginning
	Pending  uint64
	Oldest   event.Time // when the first pending event came in; 0 if unknown or none
	Ledger   Ledger
}

// Cursors returns the state of every cursor of the stream.
func (s *Stream) Cursors() map[string]CursorStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]CursorStatus, len(s.cursors))
	for name, c := range s.cursors {
		st := CursorStatus{Name: name, Attached: c.attached, Next: c.pos,
			Appended: max(s.durable, c.pos) - 1 - s.gap, Pending: s.durable - min(c.pos, s.durable), Ledger: c.saved.Ledger}
		if st.Pending > 0 {
			st.Oldest = s.receivedAt(c.pos)
		}
		all[name] = st
	}
	return all
}

// receivedAt estimates when the event at offset came in, without reading it:
// exactly for what is in memory, else by the end of the segment before.
func (s *Stream) receivedAt(offset uint64) event.Time {
	for i := range s.tail {
		if r := &s.tail[i]; offset >= r.first && offset < r.end() {
			return r.events[offset-r.first].Received
		}
	}
	for i := range s.segments {
		if offset < s.segments[i].Next {
			if i > 0 {
				return s.segments[i-1].Latest
			}
			return s.segments[i].Latest
		}
	}
	return 0
}
