package window

import (
	"cmp"
	"slices"

	"holdfast/gateway/event"
)

// rows keeps rows one by one. A handle stays valid until it is dropped.
type rows struct {
	width  int // values of a row
	max    int
	n      int
	rows   []keptRow
	values []Value
	free   []int32
}

type keptRow struct {
	key           int32
	holds         bool
	time          event.Time
	offset, epoch uint64
}

func (s *rows) full() bool { return s.n >= s.max }

func (s *rows) put(key int32, row *Row) int32 {
	var h int32
	if n := len(s.free); n > 0 {
		h, s.free = s.free[n-1], s.free[:n-1]
	} else {
		h = int32(len(s.rows))
		s.rows = append(s.rows, keptRow{})
		for range s.width {
			s.values = append(s.values, Value{})
		}
	}
	s.n++
	s.rows[h] = keptRow{key, row.Holds, row.Time, row.Offset, row.Epoch}
	values := s.valuesOf(h)
	for i := range values {
		values[i].keep(&row.Values[i])
	}
	return h
}

func (s *rows) valuesOf(h int32) []Value { return s.values[int(h)*s.width : (int(h)+1)*s.width] }

// row fills in the row of a handle, without the name of its key.
func (s *rows) row(h int32, row *Row) (key int32) {
	r := &s.rows[h]
	*row = Row{Time: r.time, Offset: r.offset, Epoch: r.epoch, Holds: r.holds, Values: s.valuesOf(h)}
	return r.key
}

func (s *rows) drop(h int32) {
	clear(s.valuesOf(h))
	s.free = append(s.free, h)
	if s.n--; s.n == 0 && len(s.rows) > 1024 {
		s.rows, s.values, s.free = nil, nil, nil // after a burst
	}
}

func (s *rows) appendState(b []byte, name string, h int32) []byte {
	r := &s.rows[h]
	b = appendText(b, name)
	b = appendInt(b, int64(r.time))
	b = appendUint(b, r.offset)
	b = appendUint(b, r.epoch)
	b = appendBool(b, r.holds)
	for _, v := range s.valuesOf(h) {
		b = appendValue(b, v)
	}
	return b
}

// readRow reads a row; its values are those that the window takes.
func (w *Window) readRow(r *reader) Row {
	row := Row{Key: r.text(), Time: r.time(), Offset: r.uint(), Epoch: r.uint(), Holds: r.bool()}
	for range w.rows.width {
		row.Values = append(row.Values, r.value())
	}
	if r.err == nil {
		r.fail(w.groups.check(&row))
	}
	return row
}

// held is a heap of rows that wait for their turn, by time and arrival.
type held struct {
	rows *rows
	heap []waiting
	seq  uint64
}

type waiting struct {
	time event.Time
	seq  uint64
	row  int32
}

func (a waiting) less(b waiting) bool {
	return a.time < b.time || a.time == b.time && a.seq < b.seq
}

func (h *held) len() int          { return len(h.heap) }
func (h *held) first() event.Time { return h.heap[0].time }

func (h *held) push(row int32) {
	h.seq++
	h.heap = append(h.heap, waiting{h.rows.rows[row].time, h.seq, row})
	for i := len(h.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.heap[i].less(h.heap[up]) {
			break
		}
		h.heap[i], h.heap[up] = h.heap[up], h.heap[i]
		i = up
	}
}

func (h *held) pop() int32 {
	top, n := h.heap[0], len(h.heap)-1
	h.heap[0] = h.heap[n]
	h.heap = h.heap[:n]
	for i := 0; ; {
		next := i
		for _, down := range [2]int{2*i + 1, 2*i + 2} {
			if down < n && h.heap[down].less(h.heap[next]) {
				next = down
			}
		}
		if next == i {
			return top.row
		}
		h.heap[i], h.heap[next] = h.heap[next], h.heap[i]
		i = next
	}
}

// inOrder returns the waiting rows in the order in which they will be taken.
func (h *held) inOrder() []waiting {
	all := slices.Clone(h.heap)
	slices.SortFunc(all, func(a, b waiting) int { return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.seq, b.seq)) })
	return all
}
