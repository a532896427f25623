package window

import (
	"fmt"

	"holdfast/gateway/event"
)

// stateVersion is that of the form below. 1 was that of tumbling windows before
// there were others.
const stateVersion = 2

// AppendState appends the whole state to b: version, kind, watermark, the rows
// that wait, and what the kind has open, by time and key. A window of the same
// Assign and aggregates that takes it up goes on as this one does. The same
// state gives the same bytes. There is no checksum.
func (w *Window) AppendState(b []byte) []byte {
	b = append(b, stateVersion, w.tag)
	b = appendBool(appendBool(b, w.started), w.changed)
	b = appendInt(appendInt(b, int64(w.watermark)), int64(w.floor))
	b = appendUint(b, uint64(w.held.len()))
	for _, h := range w.held.inOrder() {
		b = w.rows.appendState(b, w.keys.name(w.rows.rows[h.row].key), h.row)
	}
	return w.kind.appendState(b)
}

// RestoreState replaces the state by what AppendState wrote. On an error, which
// means that b is damaged or of other settings, the window is empty. MaxKeys,
// MaxRows and Expire may differ.
func (w *Window) RestoreState(b []byte) error {
	r := &reader{b: b}
	w.reset()
	if v := r.byte(); r.err == nil && v != stateVersion {
		r.fail(fmt.Errorf("window state has version %d, this program knows version %d", v, stateVersion))
	}
	if r.byte() != w.tag {
		r.fail(errDamaged)
	}
	w.started, w.changed, w.watermark, w.floor = r.bool(), r.bool(), r.mark(), r.mark()
	for n := r.count(4 + w.rows.width); n > 0 && r.err == nil; n-- {
		row := w.readRow(r)
		if !w.ordered || row.Time < w.floor {
			r.fail(errDamaged)
		}
		if r.err == nil {
			key := w.key(row.Key)
			w.keys.hold(key)
			w.held.push(w.rows.put(key, &row))
		}
	}
	w.kind.readState(r)
	if len(r.b) > 0 {
		r.fail(errDamaged)
	}
	if r.err != nil {
		w.reset()
	}
	return r.err
}

// reset makes the window as it was when it was new.
func (w *Window) reset() {
	if err := w.init(); err != nil {
		panic(err) // it was possible before
	}
}

// key returns the number of a key of a state. Limits do not matter: they may
// have been higher when the state was written.
func (w *Window) key(name string) int32 {
	if i := w.keys.find(name); i >= 0 {
		return i
	}
	return w.keys.insert(name)
}

func (w *Window) readKey(r *reader) int32 { return w.key(r.text()) }

// readGroup fills the group of an open pane, whose rows are of the times given.
func (w *Window) readGroup(r *reader, g int32, from, to event.Time) {
	w.groups.readState(r, g)
	if gr := &w.groups.at[g]; gr.rows == 0 || gr.first < from || gr.last > to || gr.first > gr.last {
		r.fail(errDamaged)
	}
}
