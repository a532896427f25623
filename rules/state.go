package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The snapshot of an engine: magic, version, offset, then for each rule with a
// window its name, shape, the name of its last output, and the state of its
// watermark and its window. Numbers are varints, texts and states have their
// length in front.
const (
	snapshotMagic   = "HFRS"
	snapshotVersion = 2 // 1 was before windows other than tumbling
	maxSnapshot     = 1 << 30
)

var errSnapshot = errors.New("the snapshot of the rules is damaged")

// Snapshot writes the state of all rules. The same state gives the same bytes.
// It has no checksum of its own.
func (e *Engine) Snapshot(w io.Writer) error {
	b := append([]byte(snapshotMagic), snapshotVersion)
	b = binary.AppendUvarint(b, e.offset)
	n := 0
	for _, r := range e.rules {
		if r.win != nil {
			n++
		}
	}
	b = binary.AppendUvarint(b, uint64(n))
	var state []byte
	for _, r := range e.rules {
		if r.win == nil {
			continue
		}
		b = appendBytes(b, []byte(r.Name))
		b = binary.AppendUvarint(b, r.shape)
		b = binary.AppendUvarint(b, r.last)
		b = binary.AppendUvarint(b, uint64(r.next))
		state = r.win.mark.AppendState(state[:0])
		b = appendBytes(b, r.win.window.AppendState(state))
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write the snapshot of the rules on stream %q: %w", e.stream, err)
	}
	return nil
}

// Restore replaces the state by that of a snapshot, which may come from an
// engine of another set. Rules that are the same in both go on where they were;
// what a rule emits, its having, grace, idle and max_keys may differ for that.
// All other rules begin empty. It returns the names of those whose state in the
// snapshot could not be used, because they changed or are gone.
//
// On an error all rules are empty.
func (e *Engine) Restore(r io.Reader) (unused []string, err error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSnapshot+1))
	if err == nil {
		unused, err = e.restore(b)
	}
	if err != nil {
		for _, r := range e.rules {
			r.clear()
		}
		e.offset = 0
		return nil, fmt.Errorf("restore the rules on stream %q: %w", e.stream, err)
	}
	return unused, nil
}

func (r *rule) clear() {
	r.last, r.next = 0, 0
	if r.win != nil {
		r.win.window.Flush(nil)
		_, _ = r.win.mark.RestoreState([]byte{0})
	}
}

func (e *Engine) restore(b []byte) (unused []string, err error) {
	if len(b) < len(snapshotMagic)+1 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, errSnapshot
	}
	if v := b[len(snapshotMagic)]; v != snapshotVersion {
		return nil, fmt.Errorf("the snapshot has version %d, this program knows version %d", v, snapshotVersion)
	}
	byName := map[string]*rule{}
	for _, r := range e.rules {
		r.clear()
		byName[r.Name] = r
	}
	d := &decoder{b: b[len(snapshotMagic)+1:]}
	e.offset = d.uint()
	for n := d.uint(); n > 0 && !d.bad; n-- {
		name := string(d.bytes())
		shape, last, next := d.uint(), d.uint(), d.uint()
		state := d.bytes()
		r := byName[name]
		if r == nil || r.win == nil || r.shape != shape {
			unused = append(unused, name)
			continue
		}
		r.last, r.next = last, int(next)
		rest, err := r.win.mark.RestoreState(state)
		if err == nil {
			err = r.win.window.RestoreState(rest)
		}
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", name, err)
		}
	}
	if d.bad || len(d.b) > 0 {
		return nil, errSnapshot
	}
	return unused, nil
}

func appendBytes(b, part []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(part)))
	return append(b, part...)
}

// decoder takes a snapshot apart; bad tells that it ran out or made no sense.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	part := d.b[:n]
	d.b = d.b[n:]
	return part
}
