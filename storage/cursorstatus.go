package storage

import "holdfast/gateway/event"

// CursorStatus is a cursor as the operator sees it.
type CursorStatus struct {
	Name     string
	Attached bool
	Next     uint64
	Appended uint64 // events of the stream since its beginning
	Pending  uint64
	Retrying uint64     // of the pending ones, dead letters that are tried again
	Purged   uint64     // of the dead ones, letters that were purged
	Bytes    uint64     // that the pending events take on disk, about
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
			Appended: max(s.durable, c.pos) - 1 - s.gap, Pending: s.durable - min(c.pos, s.durable),
			Retrying: c.saved.Retrying, Purged: c.saved.Purged, Ledger: c.saved.Ledger}
		if st.Pending > 0 {
			st.Oldest = s.receivedAt(c.pos)
			st.Bytes = s.bytesFrom(c.pos)
		}
		st.Pending += st.Retrying
		all[name] = st
	}
	return all
}

// bytesFrom estimates what the events from offset on take on disk, by shares of
// their segments.
func (s *Stream) bytesFrom(offset uint64) (n uint64) {
	for i := range s.segments {
		g := &s.segments[i]
		switch {
		case g.Next <= offset:
		case g.First >= offset:
			n += g.Bytes
		default:
			n += g.Bytes * (g.Next - offset) / (g.Next - g.First)
		}
	}
	return n
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
