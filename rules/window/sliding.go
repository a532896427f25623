package window

import (
	"time"

	"holdfast/gateway/event"
)

// Sliding gives a pane for each row: what its key had in the time Size up to
// and with the row. Of rows at one time, each sees those that came before it.
type Sliding struct{ Size time.Duration }

func (a Sliding) assign(w *Window) (kind, error) {
	if err := length("the length of a sliding window", a.Size); err != nil {
		return nil, err
	}
	w.tag, w.keeps = 'l', true
	return &sliding{w: w, size: event.Time(a.Size)}, nil
}

// chunk is how many rows of a key are aggregated together, so that a pane takes
// at most so many single rows at its old end, and beyond that a merge for each
// chunk.
const chunk = 64

type sliding struct {
	w     *Window
	size  event.Time
	byKey perKey[train]
	queue queue[int32] // all rows, by time
	row   Row          // at hand
}

// train has the rows of a key, by time.
type train struct {
	rows   queue[int32]
	first  uint64       // number of the first row; rows of a chunk have the same number / chunk
	chunks queue[int32] // groups of the chunks, from that of the first row on
}

func (s *sliding) ordered() bool               { return true }
func (s *sliding) late(int32, event.Time) bool { return false }

func (s *sliding) add(dst []Pane, key int32, row *Row) []Pane {
	s.evict(row.Time - s.size)
	h := s.w.rows.put(key, row)
	s.w.keys.hold(key)
	s.push(key, h)
	gs := &s.w.groups
	g := s.merged(key)
	return gs.pane(dst, g, s.w.keys.name(key), row.Time-s.size, row.Time)
}

func (s *sliding) push(key, h int32) {
	t := s.byKey.at(key)
	number := t.first + uint64(t.rows.len())
	if t.rows.len() == 0 || number%chunk == 0 {
		t.chunks.push(s.w.groups.take(key))
	}
	t.rows.push(h)
	s.queue.push(h)
	s.w.rows.row(h, &s.row)
	s.w.groups.add(*t.chunks.at(t.chunks.len() - 1), &s.row)
}

// evict drops the rows up to a time.
func (s *sliding) evict(upTo event.Time) {
	for s.queue.len() > 0 {
		h := *s.queue.at(0)
		if s.w.rows.rows[h].time > upTo {
			return
		}
		key := s.w.rows.rows[h].key
		s.queue.pop()
		t := s.byKey.at(key)
		t.rows.pop()
		t.first++
		if t.first%chunk == 0 || t.rows.len() == 0 {
			s.w.groups.drop(t.chunks.pop())
		}
		if t.rows.len() == 0 {
			t.first = 0
		}
		s.w.rows.drop(h)
		s.w.keys.release(key)
	}
}

// merged returns a group with all rows of a key: the single rows of a chunk of
// which some have left, and the chunks after it.
func (s *sliding) merged(key int32) int32 {
	gs, t := &s.w.groups, s.byKey.at(key)
	if t.chunks.len() == 1 && t.first%chunk == 0 {
		return *t.chunks.at(0)
	}
	gs.clear(gs.scratch)
	from := 0
	if t.first%chunk != 0 {
		from = 1
		for i := range min(int(chunk-t.first%chunk), t.rows.len()) {
			s.w.rows.row(*t.rows.at(i), &s.row)
			gs.add(gs.scratch, &s.row)
		}
	}
	for i := from; i < t.chunks.len(); i++ {
		gs.merge(gs.scratch, *t.chunks.at(i))
	}
	return gs.scratch
}

func (s *sliding) advance(dst []Pane, at event.Time) []Pane {
	s.evict(max(at-s.size, -1))
	return dst
}

func (s *sliding) due() (event.Time, bool) { return 0, false }
func (s *sliding) early(dst []Pane) []Pane { return dst }

func (s *sliding) flush(dst []Pane) []Pane {
	s.evict(MaxTime)
	return dst
}

func (s *sliding) appendState(b []byte) []byte {
	n := 0
	for key := range s.byKey {
		if s.byKey[key].first%chunk != 0 {
			n++
		}
	}
	b = appendUint(b, uint64(n))
	for _, key := range s.w.keys.byName() {
		if first := s.byKey.get(key).first; first%chunk != 0 {
			b = appendText(b, s.w.keys.name(key))
			b = append(b, byte(first%chunk))
		}
	}
	b = appendUint(b, uint64(s.queue.len()))
	for i := range s.queue.len() {
		h := *s.queue.at(i)
		b = s.w.rows.appendState(b, s.w.keys.name(s.w.rows.rows[h].key), h)
	}
	return b
}

// readState builds the chunks again. That of which some rows have left lacks
// them now, but it is not looked at any more.
func (s *sliding) readState(r *reader) {
	for n := r.count(2); n > 0 && r.err == nil; n-- {
		t := s.byKey.at(s.w.readKey(r))
		if t.first != 0 {
			r.fail(errDamaged)
		}
		if t.first = uint64(r.byte()); t.first == 0 || t.first >= chunk {
			r.fail(errDamaged)
		}
	}
	last := event.Time(0)
	for n := r.count(4); n > 0 && r.err == nil; n-- {
		row := s.w.readRow(r)
		if row.Time < last {
			r.fail(errDamaged)
		}
		if last = row.Time; r.err == nil {
			key := s.w.key(row.Key)
			s.w.keys.hold(key)
			s.push(key, s.w.rows.put(key, &row))
		}
	}
	for key := range s.byKey {
		if t := &s.byKey[key]; t.first != 0 && t.rows.len() == 0 {
			r.fail(errDamaged)
		}
	}
}

// queue is a list that grows at its end and shrinks at its start.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int    { return len(q.items) - q.head }
func (q *queue[T]) at(i int) *T { return &q.items[q.head+i] }

func (q *queue[T]) push(v T) {
	if q.head > 16 && q.head > len(q.items)/2 {
		q.items = q.items[:copy(q.items, q.items[q.head:])]
		q.head = 0
	}
	q.items = append(q.items, v)
}

func (q *queue[T]) pop() T {
	v := q.items[q.head]
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}
