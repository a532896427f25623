package window

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"holdfast/gateway/event"
)

// Tumbling cuts time into panes of one length that do not overlap, aligned to
// 1970-01-01 UTC.
type Tumbling struct{ Size time.Duration }

func (a Tumbling) assign(w *Window) (kind, error) {
	if err := length("the length of a tumbling window", a.Size); err != nil {
		return nil, err
	}
	return newAligned(w, a.Size, a.Size), nil
}

// Hopping begins a pane of length Size at every multiple of Every since
// 1970-01-01 UTC. A row belongs to all panes that hold its time; it is late
// when the last of them has closed.
type Hopping struct{ Size, Every time.Duration }

// MaxSlices bounds how finely a hopping window can be cut: its length must be
// at most so many times the greatest common divisor of length and hop.
const MaxSlices = 1000

func (a Hopping) assign(w *Window) (kind, error) {
	if err := length("the length of a hopping window", a.Size); err != nil {
		return nil, err
	}
	if err := length("the hop of a hopping window", a.Every); err != nil {
		return nil, err
	}
	if a.Every > a.Size {
		return nil, fmt.Errorf("a hop of %v is longer than the window of %v: what lies between windows would be lost", a.Every, a.Size)
	}
	h := newAligned(w, a.Size, a.Every)
	if n := h.size / h.cut; n > MaxSlices {
		return nil, fmt.Errorf("a window of %v every %v consists of %d slices of %v, at most %d are possible; choose a hop that divides the window",
			a.Size, a.Every, n, time.Duration(h.cut), MaxSlices)
	}
	return h, nil
}

// aligned has tumbling and hopping windows. Rows go into slices as long as the
// greatest common divisor of length and hop; a pane is what its slices merge
// to, so that a row costs the same however many panes it belongs to.
type aligned struct {
	w      *Window
	size   event.Time
	every  event.Time
	cut    event.Time // length of a slice
	slices []*slice   // by start
	spare  *slice     // memory of a closed slice

	order []int32 // scratch

	closed event.Time // panes that end here or before have closed
	begun  bool       // closed is valid

	before  perKey[int32] // group that carries the key's last row of dropped slices, + 1
	carried int           // how many there are
}

// slice is a part of time with the groups of its keys.
type slice struct {
	start  event.Time
	groups perKey[int32] // group + 1
	n      int
}

func newAligned(w *Window, size, every time.Duration) *aligned {
	a, b := size, every
	for b != 0 {
		a, b = b, a%b
	}
	w.tag = 'a'
	return &aligned{w: w, size: event.Time(size), every: event.Time(every), cut: event.Time(a)}
}

func (a *aligned) ordered() bool { return false }

// floorTo returns the greatest multiple of unit that is at most t.
func floorTo(t, unit event.Time) event.Time {
	rest := t % unit
	if rest < 0 {
		rest += unit
	}
	return t - rest
}

func (a *aligned) late(_ int32, t event.Time) bool {
	return a.begun && floorTo(t, a.every)+a.size <= a.closed
}

func (a *aligned) add(dst []Pane, key int32, row *Row) []Pane {
	s := a.slice(floorTo(row.Time, a.cut))
	slot := s.groups.at(key)
	if *slot == 0 {
		*slot = a.w.groups.take(key) + 1
		s.n++
		a.w.keys.hold(key)
	}
	a.w.groups.add(*slot-1, row)
	return dst
}

// slice returns the slice that begins at start. Most rows go to the newest.
func (a *aligned) slice(start event.Time) *slice {
	i := len(a.slices)
	for i > 0 && a.slices[i-1].start > start {
		i--
	}
	if i > 0 && a.slices[i-1].start == start {
		return a.slices[i-1]
	}
	s := a.spare
	if a.spare = nil; s == nil {
		s = &slice{}
	}
	s.start = start
	a.slices = slices.Insert(a.slices, i, s)
	return s
}

// next returns the start of the first pane that ends after closed.
func (a *aligned) next() event.Time { return floorTo(a.closed-a.size, a.every) + a.every }

// first returns the end of the first open pane that holds rows.
func (a *aligned) first() (end event.Time, ok bool) {
	if len(a.slices) == 0 {
		return 0, false
	}
	start := floorTo(a.slices[0].start-a.size, a.every) + a.every
	if a.begun {
		start = max(start, a.next())
	}
	return start + a.size, true
}

func (a *aligned) due() (event.Time, bool) { return a.first() }

func (a *aligned) advance(dst []Pane, at event.Time) []Pane {
	for {
		end, ok := a.first()
		if !ok || end > at {
			break
		}
		dst = a.panes(dst, end, false)
		a.pass(end)
	}
	a.pass(at)
	return dst
}

func (a *aligned) flush(dst []Pane) []Pane {
	for {
		end, ok := a.first()
		if !ok {
			break
		}
		dst = a.panes(dst, end, false)
		a.pass(end)
	}
	a.closed, a.begun = 0, false
	for key := range a.before {
		a.forget(int32(key))
	}
	return dst
}

// early gives the results so far of all open panes.
func (a *aligned) early(dst []Pane) []Pane {
	end, ok := a.first()
	if !ok {
		return dst
	}
	// By slices, not from one end to the next: a device whose clock is years
	// ahead may have made the last slice.
	for _, s := range a.slices {
		end = max(end, floorTo(s.start-a.size, a.every)+a.every+a.size)
		for ; end-a.size <= s.start; end += a.every {
			dst = a.panes(dst, end, true)
		}
	}
	for _, s := range a.slices {
		for _, slot := range s.groups {
			if slot != 0 {
				a.w.groups.at[slot-1].changed = false
			}
		}
	}
	return dst
}

// within returns the slices of the pane that ends at end, and those before.
func (a *aligned) within(end event.Time) (parts, earlier []*slice) {
	from, _ := slices.BinarySearchFunc(a.slices, end-a.size, func(s *slice, t event.Time) int { return cmp.Compare(s.start, t) })
	to := from
	for to < len(a.slices) && a.slices[to].start < end {
		to++
	}
	return a.slices[from:to], a.slices[:from]
}

// panes appends the panes of all keys that end at end, by key.
func (a *aligned) panes(dst []Pane, end event.Time, early bool) []Pane {
	parts, earlier := a.within(end)
	if len(parts) == 0 {
		return dst
	}
	for _, key := range a.keysOf(parts) {
		g, ok := a.merged(parts, earlier, key, early)
		switch {
		case !ok:
		case early:
			dst = a.w.groups.earlyPane(dst, g, a.w.keys.name(key), end-a.size, end)
		default:
			dst = a.w.groups.pane(dst, g, a.w.keys.name(key), end-a.size, end)
		}
	}
	return dst
}

// keysOf returns the keys of the parts in order, maybe with others. When there
// are new keys, sorting those of a small pane is less work than sorting all.
func (a *aligned) keysOf(parts []*slice) []int32 {
	n := 0
	for _, s := range parts {
		n += s.n
	}
	if a.w.keys.sorted || n > len(a.w.keys.index)/4 {
		return a.w.keys.byName()
	}
	a.order = a.order[:0]
	for _, s := range parts {
		for key, slot := range s.groups {
			if slot != 0 {
				a.order = append(a.order, int32(key))
			}
		}
	}
	slices.SortFunc(a.order, a.w.keys.compare)
	a.order = slices.Compact(a.order)
	return a.order
}

// merged returns a group with all that a key has in the parts of a pane.
func (a *aligned) merged(parts, earlier []*slice, key int32, early bool) (g int32, ok bool) {
	gs := &a.w.groups
	if len(parts) == 1 && len(gs.carriers) == 0 {
		slot := parts[0].groups.get(key)
		return slot - 1, slot != 0 && !(early && !gs.at[slot-1].changed)
	}
	for _, s := range parts {
		slot := s.groups.get(key)
		if slot == 0 {
			continue
		}
		if g = gs.scratch; !ok {
			a.begin(g, earlier, key)
			ok = true
		}
		gs.merge(g, slot-1)
	}
	return g, ok && !(early && !gs.at[g].changed)
}

// begin makes g an empty group that knows the key's last row before a pane.
func (a *aligned) begin(g int32, earlier []*slice, key int32) {
	gs := &a.w.groups
	if len(gs.carriers) > 0 {
		for _, s := range slices.Backward(earlier) {
			if slot := s.groups.get(key); slot != 0 {
				gs.carry(g, slot-1)
				return
			}
		}
		if slot := a.before.get(key); slot != 0 {
			gs.start(g, slot-1)
			return
		}
	}
	gs.clear(g)
}

// pass notes that all panes up to a time have closed, and drops the slices that
// no open pane needs.
func (a *aligned) pass(at event.Time) {
	if a.begun && at < a.closed {
		return
	}
	a.closed, a.begun = at, true
	next, n := a.next(), 0
	for n < len(a.slices) && a.slices[n].start < next {
		a.drop(a.slices[n])
		n++
	}
	if n > 0 {
		a.slices = slices.Delete(a.slices, 0, n)
		a.tidy()
	}
}

// drop empties a slice and keeps its memory for the next one.
func (a *aligned) drop(s *slice) {
	gs := &a.w.groups
	for key, slot := range s.groups {
		if slot == 0 {
			continue
		}
		if len(gs.carriers) > 0 {
			b := a.before.at(int32(key))
			if *b == 0 {
				*b = gs.take(int32(key)) + 1
				a.w.keys.entries[key].soft = true
				a.carried++
			}
			gs.carry(*b-1, slot-1)
		}
		gs.drop(slot - 1)
		a.w.keys.release(int32(key))
	}
	clear(s.groups)
	s.n = 0
	a.spare = s
}

// tidy forgets last rows that have expired, and if there are too many those
// that are oldest.
func (a *aligned) tidy() {
	if a.carried == 0 {
		return
	}
	// No row of an open or later pane is older than the next pane to close.
	expire, oldest := event.Time(a.w.cfg.Expire), a.next()
	var all []int32
	for key, slot := range a.before {
		if slot == 0 {
			continue
		}
		if expire > 0 && a.w.groups.at[slot-1].last+expire <= oldest {
			a.forget(int32(key))
		} else if a.carried > 2*a.w.cfg.MaxKeys {
			all = append(all, int32(key))
		}
	}
	if a.carried <= 2*a.w.cfg.MaxKeys {
		return
	}
	last := func(key int32) event.Time { return a.w.groups.at[a.before[key]-1].last }
	slices.SortFunc(all, func(x, y int32) int {
		return cmp.Or(cmp.Compare(last(x), last(y)), cmp.Compare(a.w.keys.name(x), a.w.keys.name(y)))
	})
	for _, key := range all {
		if a.carried <= a.w.cfg.MaxKeys {
			break
		}
		if a.before[key] != 0 {
			a.forget(key)
		}
	}
}

func (a *aligned) forget(key int32) {
	if slot := a.before[key]; slot != 0 {
		a.w.groups.drop(slot - 1)
		a.before[key] = 0
		a.carried--
		a.w.keys.entries[key].soft = false
	}
}

func (a *aligned) appendState(b []byte) []byte {
	b = appendBool(b, a.begun)
	b = appendInt(b, int64(a.closed))
	b = appendUint(b, uint64(a.carried))
	for _, key := range a.w.keys.byName() {
		if slot := a.before.get(key); slot != 0 {
			b = appendText(b, a.w.keys.name(key))
			b = a.w.groups.appendCarried(b, slot-1)
		}
	}
	b = appendUint(b, uint64(len(a.slices)))
	for _, s := range a.slices {
		b = appendInt(b, int64(s.start))
		b = appendUint(b, uint64(s.n))
		for _, key := range a.w.keys.byName() {
			if slot := s.groups.get(key); slot != 0 {
				b = appendText(b, a.w.keys.name(key))
				b = a.w.groups.appendState(b, slot-1)
			}
		}
	}
	return b
}

func (a *aligned) readState(r *reader) {
	a.begun, a.closed = r.bool(), r.mark()
	if !a.begun && a.closed != 0 {
		r.fail(errDamaged)
	}
	for n := r.count(2); n > 0 && r.err == nil; n-- {
		key := a.w.readKey(r)
		b := a.before.at(key)
		if *b != 0 || len(a.w.groups.carriers) == 0 {
			r.fail(errDamaged)
			return
		}
		*b = a.w.groups.take(key) + 1
		a.w.keys.entries[key].soft = true
		a.carried++
		a.w.groups.readCarried(r, *b-1)
	}
	for n := r.count(3); n > 0 && r.err == nil; n-- {
		a.readSlice(r)
	}
}

func (a *aligned) readSlice(r *reader) {
	start := r.time()
	if start%a.cut != 0 || len(a.slices) > 0 && a.slices[len(a.slices)-1].start >= start || a.begun && start < a.next() {
		r.fail(errDamaged)
		return
	}
	s := a.slice(start)
	n := r.count(4)
	if n == 0 {
		r.fail(errDamaged)
	}
	for ; n > 0 && r.err == nil; n-- {
		key := a.w.readKey(r)
		slot := s.groups.at(key)
		if *slot != 0 {
			r.fail(errDamaged)
			return
		}
		*slot = a.w.groups.take(key) + 1
		s.n++
		a.w.keys.hold(key)
		a.w.readGroup(r, *slot-1, start, start+a.cut-1)
	}
}
