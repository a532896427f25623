package window

import (
	"fmt"

	"holdfast/gateway/event"
)

// Count closes the pane of a key with every Rows rows. Rows count in order of
// time. A pane reaches from its first row to its last, which is in it.
type Count struct{ Rows int }

func (a Count) assign(w *Window) (kind, error) {
	if a.Rows < 1 || a.Rows > 1e9 {
		return nil, fmt.Errorf("a count window of %d rows is not possible, choose between 1 and 1000000000", a.Rows)
	}
	w.tag = 'c'
	return newPerKey(w, counted{uint64(a.Rows)}), nil
}

// State opens the pane of a key with the first row for which the condition
// holds, and closes it at the time of the first for which it does not; that one
// is not in it. The condition is Row.Holds; rows count in order of time.
type State struct{}

func (a State) assign(w *Window) (kind, error) {
	w.tag = 's'
	return newPerKey(w, stated{}), nil
}

// perKeyKind has windows of which each key has at most one that is open.
type perKeyKind struct {
	w      *Window
	rule   perKeyRule
	open   perKey[int32] // group + 1
	timers timers
}

// perKeyRule says when panes begin and end.
type perKeyRule interface {
	// takes tells whether a row belongs to the open pane or begins one.
	takes(row *Row) bool
	// complete tells whether a pane with n rows is closed by its last row, or by
	// one that it does not take.
	complete(n uint64, taken bool) bool
}

type counted struct{ rows uint64 }

func (c counted) takes(*Row) bool                { return true }
func (c counted) complete(n uint64, _ bool) bool { return n >= c.rows }

type stated struct{}

func (stated) takes(row *Row) bool                { return row.Holds }
func (stated) complete(_ uint64, taken bool) bool { return !taken }

func newPerKey(w *Window, rule perKeyRule) *perKeyKind {
	p := &perKeyKind{w: w, rule: rule}
	p.timers = timers{groups: &w.groups, due: p.expires}
	return p
}

func (p *perKeyKind) ordered() bool               { return true }
func (p *perKeyKind) late(int32, event.Time) bool { return false }

func (p *perKeyKind) expires(g int32) event.Time {
	return p.w.groups.at[g].last + event.Time(p.w.cfg.Expire)
}

func (p *perKeyKind) add(dst []Pane, key int32, row *Row) []Pane {
	gs := &p.w.groups
	slot := p.open.at(key)
	if *slot != 0 && p.w.cfg.Expire > 0 && p.expires(*slot-1) <= row.Time {
		dst = p.expire(dst, *slot-1)
	}
	taken := p.rule.takes(row)
	if taken {
		if *slot == 0 {
			*slot = gs.take(key) + 1
			p.w.keys.hold(key)
		}
		gs.add(*slot-1, row)
		if gs.at[*slot-1].rows == 1 && p.w.cfg.Expire > 0 {
			p.timers.start(*slot - 1)
		}
	}
	if *slot != 0 && p.rule.complete(gs.at[*slot-1].rows, taken) {
		dst = p.close(dst, *slot-1, row.Time)
	}
	return dst
}

func (p *perKeyKind) close(dst []Pane, g int32, end event.Time) []Pane {
	gs := &p.w.groups
	key := gs.at[g].key
	dst = gs.pane(dst, g, p.w.keys.name(key), gs.at[g].first, end)
	p.open[key] = 0
	gs.drop(g)
	p.w.keys.release(key)
	return dst
}

// expire closes a pane at its last row.
func (p *perKeyKind) expire(dst []Pane, g int32) []Pane {
	dst = p.close(dst, g, p.w.groups.at[g].last)
	dst[len(dst)-1].Expired = true
	return dst
}

func (p *perKeyKind) advance(dst []Pane, at event.Time) []Pane {
	for {
		g, end, ok := p.timers.first()
		if !ok || end > at {
			return dst
		}
		dst = p.expire(dst, g)
	}
}

func (p *perKeyKind) due() (event.Time, bool) {
	_, at, ok := p.timers.first()
	return at, ok
}

func (p *perKeyKind) early(dst []Pane) []Pane {
	gs := &p.w.groups
	for key, slot := range p.open {
		if slot != 0 && gs.at[slot-1].changed {
			gr := &gs.at[slot-1]
			dst = gs.earlyPane(dst, slot-1, p.w.keys.name(int32(key)), gr.first, gr.last)
			gr.changed = false
		}
	}
	return dst
}

func (p *perKeyKind) flush(dst []Pane) []Pane {
	for _, slot := range p.open {
		if slot != 0 {
			dst = p.close(dst, slot-1, p.w.groups.at[slot-1].last)
		}
	}
	p.timers.heap = p.timers.heap[:0]
	return dst
}

func (p *perKeyKind) appendState(b []byte) []byte {
	n := 0
	for _, slot := range p.open {
		if slot != 0 {
			n++
		}
	}
	b = appendUint(b, uint64(n))
	for _, key := range p.w.keys.byName() {
		if slot := p.open.get(key); slot != 0 {
			b = appendText(b, p.w.keys.name(key))
			b = p.w.groups.appendState(b, slot-1)
		}
	}
	return b
}

func (p *perKeyKind) readState(r *reader) {
	for n := r.count(4); n > 0 && r.err == nil; n-- {
		key := p.w.readKey(r)
		slot := p.open.at(key)
		if *slot != 0 {
			r.fail(errDamaged)
			return
		}
		*slot = p.w.groups.take(key) + 1
		p.w.keys.hold(key)
		p.w.readGroup(r, *slot-1, 0, MaxTime-1)
		if p.w.cfg.Expire > 0 && r.err == nil {
			p.timers.start(*slot - 1)
		}
	}
}
