package forward

// window is what the cursor has handed out and the forwarder has not booked
// yet, in log order. Fates are decided in any order; only what is decided from
// the beginning on is booked, so that the position never passes an event of
// which nobody knows what became of it.
type window struct {
	spans  []*span
	events int
	bytes  int
}

// span is a run of offsets [from, to) in the window.
type span struct {
	from, to uint64
	at       uint64 // what lies below is booked
	fates    []fate // of the events; nil if all of them are skipped
	skipped  Skip
	dead     map[uint64]*DeadLetter // by offset
	bytes    int
}

// fate is what became of an event.
type fate uint8

const (
	undecided fate = iota
	delivered
	filtered
	buried // it is a dead letter
)

// add appends what the cursor has handed out.
func (w *window) add(s *Span) *span {
	n := &span{from: s.From, to: s.To, at: s.From, skipped: s.Skipped}
	if s.Skipped == SkipNothing {
		n.fates = make([]fate, len(s.Events))
		for i := range s.Events {
			n.bytes += s.Events[i].Size()
		}
	}
	w.spans = append(w.spans, n)
	w.events += len(n.fates)
	w.bytes += n.bytes
	return n
}

// decide notes what became of the event at offset.
func (s *span) decide(offset uint64, f fate, d *DeadLetter) {
	s.fates[offset-s.from] = f
	if d != nil {
		if s.dead == nil {
			s.dead = map[uint64]*DeadLetter{}
		}
		s.dead[offset] = d
	}
}

// decided returns the next offsets [from, to) that can be booked, and how.
func (w *window) decided() (from, to uint64, o Outcome) {
	if len(w.spans) == 0 {
		return 0, 0, o
	}
	s := w.spans[0]
	switch s.skipped {
	case SkipFiltered:
		return s.at, s.to, Outcome{Filtered: int(s.to - s.at)}
	case SkipDamaged:
		return s.at, s.to, Outcome{Damaged: int(s.to - s.at)}
	}
	for to = s.at; to < s.to; to++ {
		switch s.fates[to-s.from] {
		case undecided:
			return s.at, to, o
		case delivered:
			o.Delivered++
		case filtered:
			o.Filtered++
		case buried:
			o.Dead = append(o.Dead, *s.dead[to])
		}
	}
	return s.at, to, o
}

// pass notes that the offsets before to are booked.
func (w *window) pass(to uint64) {
	s := w.spans[0]
	s.at = to
	if to < s.to {
		return
	}
	w.events -= len(s.fates)
	w.bytes -= s.bytes
	w.spans[0] = nil
	w.spans = w.spans[1:]
}
