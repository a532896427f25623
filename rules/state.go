package rules

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// The snapshot of an engine: magic, version, offset, the steady time, the
// versions of the lookup tables, then for each rule its name, print, the name
// of its last output, whether it is disabled, and the parts of its state, each
// with its shape. Numbers are varints, texts and states have their length in
// front.
const (
	snapshotMagic   = "HFRS"
	snapshotVersion = 3 // 1 had tumbling windows only, 2 no functions with a memory
	maxSnapshot     = 1 << 30
)

var errSnapshot = errors.New("the snapshot of the rules is damaged")

// part is a part of the state of a rule that is kept or lost as a whole.
type part struct {
	tag   byte
	shape uint64
	write func(b []byte) []byte
	read  func(d *decoder) error
}

// parts lists what the state of a rule consists of.
func (r *rule) parts() (all []part) {
	if r.win != nil {
		all = append(all, part{'w', r.shape, r.writeWindow, r.readWindow})
	}
	if r.memory != nil {
		all = append(all, part{'m', r.spec.memoryShape(), r.memory.write, r.memory.read})
	}
	if r.holds != nil {
		all = append(all, part{'h', r.spec.holdShape(), r.writeHolds, r.readHolds})
	}
	if r.timer != nil {
		all = append(all, part{'t', hash(r.source.text), r.timer.write, r.timer.read})
	}
	for _, l := range r.latest {
		all = append(all, part{'l', hash(l.id), l.write, l.read})
	}
	return all
}

// Snapshot writes the state of all rules. The same state gives the same bytes.
// It has no checksum of its own.
func (e *Engine) Snapshot(w io.Writer) error {
	b := append([]byte(snapshotMagic), snapshotVersion)
	b = binary.AppendUvarint(b, e.offset)
	b = e.steady.write(b)
	names := slices.Sorted(maps.Keys(e.frame.tables))
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = appendBytes(appendBytes(b, name), e.frame.tables[name].Version)
	}
	b = binary.AppendUvarint(b, uint64(len(e.rules)))
	var state []byte
	for _, r := range e.rules {
		b = appendBytes(b, r.Name)
		for _, n := range []uint64{r.print, r.last, uint64(r.next)} {
			b = binary.AppendUvarint(b, n)
		}
		b = appendBool(b, r.off)
		b = appendBytes(b, r.reason)
		parts := r.parts()
		b = binary.AppendUvarint(b, uint64(len(parts)))
		for _, p := range parts {
			b = binary.AppendUvarint(append(b, p.tag), p.shape)
			state = p.write(state[:0])
			b = appendBytes(b, string(state))
		}
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write the snapshot of the rules on stream %q: %w", e.stream, err)
	}
	return nil
}

// Restored says what [Engine.Restore] has made of a snapshot. Rules that are
// the same as in the snapshot and have kept everything are in none of the lists.
type Restored struct {
	Kept   []string // have changed and keep their state
	Partly []string // have changed and keep a part of their state
	Lost   []string // have changed, or are gone, and lose their state
	// Tables are the versions of the lookup tables at the time; they are for
	// the caller to set.
	Tables map[string]string
}

// Restore replaces the state by that of a snapshot, which may come from an
// engine of another set. What is the same in both goes on where it was: the
// window of a rule as long as from, where, key, time and aggregates stay; what
// a function remembers as long as from, key, time and the call itself stay; what
// `for` waits for as long as where stays as well. Whatever else a rule does may
// differ. All other state begins empty.
//
// On an error all rules are empty.
func (e *Engine) Restore(r io.Reader) (Restored, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSnapshot+1))
	var report Restored
	if err == nil {
		report, err = e.restore(b)
	}
	if err != nil {
		e.clear()
		return Restored{}, fmt.Errorf("restore the rules on stream %q: %w", e.stream, err)
	}
	e.remind()
	return report, nil
}

func (e *Engine) clear() {
	for _, r := range e.rules {
		r.clear()
	}
	e.offset, e.steady, e.suspects = 0, steady{}, 0
	e.remind()
}

func (r *rule) clear() {
	r.last, r.next = 0, 0
	r.off, r.reason, r.cost = false, "", cost{}
	if r.win != nil {
		r.win.window.Flush(nil)
		_, _ = r.win.mark.RestoreState([]byte{0})
	}
	if r.memory != nil {
		*r.memory = *newMemory(r.memory.sites, r.memory.max, r.memory.expire)
	}
	if r.holds != nil {
		r.holds.waiting = nil
	}
	if r.timer != nil {
		r.timer.armed, r.timer.last = false, 0
	}
	for _, l := range r.latest {
		clear(l.values)
	}
}

func (e *Engine) restore(b []byte) (report Restored, err error) {
	if len(b) < len(snapshotMagic)+1 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return report, errSnapshot
	}
	if v := b[len(snapshotMagic)]; v != snapshotVersion {
		return report, fmt.Errorf("the snapshot has version %d, this program knows version %d", v, snapshotVersion)
	}
	e.clear()
	d := &decoder{b: b[len(snapshotMagic)+1:]}
	e.offset = d.uint()
	e.steady.read(d)
	report.Tables = map[string]string{}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		name := string(d.bytes())
		report.Tables[name] = string(d.bytes())
	}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		name := string(d.bytes())
		kept, lost, same, err := e.restoreRule(name, d)
		switch {
		case err != nil:
			return report, fmt.Errorf("rule %q: %w", name, err)
		case lost == 0 && kept > 0 && !same:
			report.Kept = append(report.Kept, name)
		case lost > 0 && kept > 0:
			report.Partly = append(report.Partly, name)
		case lost > 0:
			report.Lost = append(report.Lost, name)
		}
	}
	if d.bad || len(d.b) > 0 {
		return report, errSnapshot
	}
	return report, nil
}

func (e *Engine) restoreRule(name string, d *decoder) (kept, lost int, same bool, err error) {
	r := e.rule(name)
	print, last, next := d.uint(), d.uint(), d.uint()
	off, reason := d.bool(), string(d.bytes())
	var parts []part
	if r != nil {
		same = r.print == print
		r.last, r.next = last, int(next)
		if same || reason == "" { // a rule that was too expensive may be cheaper now
			r.off, r.reason = off, reason
			r.total.off.Store(off)
		}
		parts = r.parts()
	}
	for n := d.uint(); n > 0 && !d.bad; n-- {
		tag, shape := d.byte(), d.uint()
		state := d.bytes()
		i := slices.IndexFunc(parts, func(p part) bool { return p.tag == tag && p.shape == shape })
		if i < 0 {
			if len(state) > 0 {
				lost++
			}
			continue
		}
		kept++
		inner := &decoder{b: state}
		err := parts[i].read(inner)
		if err == nil && (inner.bad || len(inner.b) > 0) {
			err = errSnapshot
		}
		if err != nil {
			return 0, 0, false, err
		}
		lost += inner.lost
	}
	return kept, lost, same, nil
}

func (r *rule) writeWindow(b []byte) []byte {
	return r.win.window.AppendState(r.win.mark.AppendState(b))
}

func (r *rule) readWindow(d *decoder) error {
	rest, err := r.win.mark.RestoreState(d.b)
	if err == nil {
		err = r.win.window.RestoreState(rest)
	}
	d.b = nil
	return err
}

func (s *steady) write(b []byte) []byte {
	b = appendBool(b, s.any)
	b = binary.AppendVarint(b, int64(s.now))
	b = binary.AppendVarint(b, int64(s.wall))
	b = binary.AppendVarint(b, int64(s.mono))
	return binary.AppendUvarint(b, uint64(s.boot))
}

func (s *steady) read(d *decoder) {
	s.any = d.bool()
	s.now, s.wall, s.mono, s.boot = event.Time(d.int()), event.Time(d.int()), time.Duration(d.int()), uint32(d.uint())
}

func (t *timer) write(b []byte) []byte {
	return binary.AppendVarint(appendBool(b, t.armed), int64(t.last))
}

func (t *timer) read(d *decoder) error {
	t.armed, t.last = d.bool(), event.Time(d.int())
	return nil
}

func (l *listener) write(b []byte) []byte {
	for _, topic := range slices.Sorted(maps.Keys(l.values)) {
		b = appendValue(appendBytes(b, topic), l.values[topic])
	}
	return b
}

func (l *listener) read(d *decoder) error {
	for len(d.b) > 0 && !d.bad {
		topic := string(d.bytes())
		l.values[topic] = d.value()
	}
	return nil
}

// write appends the ids of the sites, then the keys from the oldest on.
func (m *memory) write(b []byte) []byte {
	if len(m.keys) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(m.sites)))
	for _, s := range m.sites {
		b = appendBytes(b, s.id)
	}
	for k := m.oldest; k != nil; k = k.newer {
		b = appendBytes(b, k.name)
		for _, t := range []event.Time{k.seen, k.times[0], k.times[1]} {
			b = binary.AppendVarint(b, int64(t))
		}
		for i := range k.cells {
			b = k.cells[i].write(b)
		}
	}
	return b
}

func (m *memory) read(d *decoder) error {
	if len(d.b) == 0 {
		return nil
	}
	n := d.uint()
	if n > uint64(len(d.b)) {
		return errSnapshot
	}
	to := make([]int, n) // from the sites of the snapshot to those of the rule
	for i := range to {
		id := string(d.bytes())
		if to[i] = slices.IndexFunc(m.sites, func(s *site) bool { return s.id == id }); to[i] < 0 {
			d.lost++
		}
	}
	for len(d.b) > 0 && !d.bad {
		k := &keyed{name: string(d.bytes()), seen: event.Time(d.int()), cells: make([]cell, len(m.sites))}
		k.times = [2]event.Time{event.Time(d.int()), event.Time(d.int())}
		for _, i := range to {
			var c cell
			c.read(d)
			if i >= 0 {
				k.cells[i] = c
			}
		}
		if m.keys[k.name] != nil {
			return errSnapshot
		}
		m.keys[k.name] = k
		m.link(k)
	}
	return nil
}

func (c *cell) write(b []byte) []byte {
	b = appendBool(appendBool(b, c.set), c.flag)
	b = binary.AppendVarint(b, int64(c.at))
	b = appendValue(b, window.Num(c.number))
	b = appendValue(appendValue(b, c.value), c.waiting)
	if c.recent == nil {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(c.recent.order)))
	for _, v := range c.recent.order {
		b = binary.AppendVarint(appendValue(b, v), int64(c.recent.at[v]))
	}
	return b
}

func (c *cell) read(d *decoder) {
	c.set, c.flag, c.at, c.number = d.bool(), d.bool(), event.Time(d.int()), d.value().Num
	c.value, c.waiting = d.value(), d.value()
	n := d.uint()
	if n == 0 || n > maxRecent {
		d.bad = d.bad || n > 0
		return
	}
	c.recent = &recent{at: map[window.Value]event.Time{}}
	for ; n > 0 && !d.bad; n-- {
		v := d.value()
		c.recent.at[v] = event.Time(d.int())
		c.recent.order = append(c.recent.order, v)
	}
}

// held is an output that `for` keeps, as it is written.
type held struct {
	Stream string      `json:"stream"`
	Event  event.Event `json:"event"`
}

func (r *rule) writeHolds(b []byte) []byte {
	for k := r.memory.oldest; k != nil; k = k.newer {
		h := k.hold
		if h == nil {
			continue
		}
		b = binary.AppendVarint(appendBytes(b, k.name), int64(h.since))
		b = appendBool(binary.AppendVarint(b, int64(h.due)), h.fired)
		b = binary.AppendUvarint(b, uint64(len(h.outputs)))
		for _, o := range h.outputs {
			text, err := json.Marshal(held{o.stream, o.event})
			if err != nil {
				panic(fmt.Sprintf("rules: an event cannot be written: %v", err)) // it has plain fields only
			}
			b = appendBytes(b, string(text))
		}
	}
	return b
}

func (r *rule) readHolds(d *decoder) error {
	for len(d.b) > 0 && !d.bad {
		name := d.bytes()
		h := &holding{since: event.Time(d.int()), due: event.Time(d.int()), fired: d.bool()}
		for n := d.uint(); n > 0 && !d.bad; n-- {
			var o held
			if err := json.Unmarshal(d.bytes(), &o); err != nil {
				return errSnapshot
			}
			h.outputs = append(h.outputs, output{o.Stream, o.Event})
		}
		k := r.memory.keys[string(name)]
		if k == nil {
			continue // the key has changed its meaning, or the snapshot is damaged
		}
		k.hold = h
		if !h.fired {
			i, _ := r.holds.place(k)
			r.holds.waiting = slices.Insert(r.holds.waiting, i, k)
		}
	}
	return nil
}
