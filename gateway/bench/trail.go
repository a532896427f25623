package bench

// trail remembers what a publisher has sent, for those who check what came.
type trail struct {
	ring []sending // the latest, by number of the message
	mask uint64
	ids  []uint64 // by packet identifier: the number of the message
	// excused are messages that the broker refused: it owes them to nobody.
	excused []uint64
}

// sending is when a message was written, in ns since the start of the run.
type sending struct {
	seq uint64
	ns  int64
}

// newTrail remembers the times of at least two windows.
func newTrail(window, ids int) *trail {
	size := 64
	for size < 2*window {
		size *= 2
	}
	return &trail{ring: make([]sending, size), mask: uint64(size - 1), ids: make([]uint64, ids)}
}

// add notes message seq, sent at ns with a packet identifier, or with 0 at
// QoS 0.
func (t *trail) add(seq uint64, ns int64, id uint16) {
	t.ring[seq&t.mask] = sending{seq, ns}
	if id > 0 {
		t.ids[id-1] = seq
	}
}

// excuse notes that the message last sent with the identifier was refused.
func (t *trail) excuse(id uint16) { t.excused = append(t.excused, t.ids[id-1]) }

// sentAt returns when message seq was written, if that is still known.
func (t *trail) sentAt(seq uint64) (ns int64, ok bool) {
	s := t.ring[seq&t.mask]
	return s.ns, s.seq == seq
}

// unowed calls each with the messages of p that it does not owe anybody: those
// that were refused, and those whose acknowledgement never came.
func (p *publisher) unowed(each func(seq uint64)) {
	for _, seq := range p.trail.excused {
		each(seq)
	}
	for i, at := range p.sent {
		if at != 0 {
			each(p.trail.ids[i])
		}
	}
}
