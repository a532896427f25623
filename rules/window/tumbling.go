package window

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/DataDog/sketches-go/ddsketch/mapping"

	"holdfast/gateway/event"
)

// Tumbling cuts time into panes of one length that do not overlap, aligned to
// 1970-01-01 UTC.
type Tumbling struct {
	size    event.Time
	maxKeys int
	layout  *layout
	mapping mapping.IndexMapping

	watermark event.Time
	started   bool    // there is a watermark
	open      []*pane // by start
	spare     *pane   // memory of a closed pane
	order     []int32 // scratch
}

var _ Window = (*Tumbling)(nil)

// NewTumbling returns an empty window of the given length that keeps at most
// maxKeys keys in a pane.
func NewTumbling(size time.Duration, maxKeys int, aggs []Aggregate) *Tumbling {
	return &Tumbling{size: event.Time(size), maxKeys: maxKeys, layout: newLayout(aggs), mapping: newMapping()}
}

// pane is an open interval with the groups of its keys, in the order in which
// the keys came. The state of all groups lies in a few slabs, so that an update
// allocates nothing and the collector has little to look at.
type pane struct {
	start    event.Time
	index    map[string]int32
	groups   []group
	numbers  []float64
	values   []stamped
	sketches []*sketch
}

// Add puts the row into the one pane of its time. It never closes a pane.
func (w *Tumbling) Add(dst []Pane, row Row) ([]Pane, error) {
	if err := w.layout.check(&row); err != nil {
		return dst, err
	}
	start := row.Time - row.Time%w.size
	if w.started && start+w.size <= w.watermark {
		return dst, ErrLate
	}
	p := w.pane(start)
	i, known := p.index[row.Key]
	if !known {
		if len(p.groups) >= w.maxKeys {
			return dst, ErrKeys
		}
		i = w.grow(p, strings.Clone(row.Key))
	}
	g := &p.groups[i]
	g.rows++
	g.offset, g.epoch = row.Offset, row.Epoch
	numbers, values, sketches := w.slabs(p, int(i))
	w.layout.update(&row, numbers, values, sketches, !known)
	return dst, nil
}

// pane returns the open pane that begins at start. Most rows go to the newest.
func (w *Tumbling) pane(start event.Time) *pane {
	i := len(w.open)
	for i > 0 && w.open[i-1].start > start {
		i--
	}
	if i > 0 && w.open[i-1].start == start {
		return w.open[i-1]
	}
	p := w.spare
	if w.spare = nil; p == nil {
		p = &pane{index: map[string]int32{}}
	}
	p.start = start
	w.open = slices.Insert(w.open, i, p)
	return p
}

func (w *Tumbling) slabs(p *pane, i int) ([]float64, []stamped, []*sketch) {
	l := w.layout
	return p.numbers[i*l.numbers : (i+1)*l.numbers], p.values[i*l.values : (i+1)*l.values],
		p.sketches[i*l.sketches : (i+1)*l.sketches]
}

// grow adds an empty group for the key.
func (w *Tumbling) grow(p *pane, key string) int32 {
	i := int32(len(p.groups))
	p.index[key] = i
	p.groups = append(p.groups, group{key: key})
	for range w.layout.numbers {
		p.numbers = append(p.numbers, 0)
	}
	for range w.layout.values {
		p.values = append(p.values, stamped{})
	}
	for range w.layout.sketches {
		if n := len(p.sketches); n < cap(p.sketches) && p.sketches[:n+1][n] != nil {
			p.sketches = p.sketches[:n+1]
			p.sketches[n].Clear()
			continue
		}
		p.sketches = append(p.sketches, newSketch(w.mapping))
	}
	return i
}

// Advance closes the panes that end at or before the watermark at.
func (w *Tumbling) Advance(dst []Pane, at event.Time) []Pane {
	if w.started && at <= w.watermark {
		return dst
	}
	w.watermark, w.started = at, true
	n := 0
	for n < len(w.open) && w.open[n].start+w.size <= at {
		dst = w.close(dst, w.open[n])
		n++
	}
	if n > 0 {
		w.open = slices.Delete(w.open, 0, n)
	}
	return dst
}

// Flush closes all panes and forgets the watermark.
func (w *Tumbling) Flush(dst []Pane) []Pane {
	for _, p := range w.open {
		dst = w.close(dst, p)
	}
	w.open = slices.Delete(w.open, 0, len(w.open))
	w.watermark, w.started = 0, false
	return dst
}

// Due returns the end of the oldest open pane.
func (w *Tumbling) Due() (event.Time, bool) {
	if len(w.open) == 0 {
		return 0, false
	}
	return w.open[0].start + w.size, true
}

// close appends the groups of p by key and keeps its memory for the next pane,
// unless most of that memory was not used any more.
func (w *Tumbling) close(dst []Pane, p *pane) []Pane {
	w.order = w.order[:0]
	for i := range p.groups {
		w.order = append(w.order, int32(i))
	}
	slices.SortFunc(w.order, func(a, b int32) int { return cmp.Compare(p.groups[a].key, p.groups[b].key) })
	results := make([]Value, 0, len(p.groups)*len(w.layout.aggs))
	for _, i := range w.order {
		g := &p.groups[i]
		numbers, values, sketches := w.slabs(p, int(i))
		from := len(results)
		results = w.layout.results(results, g.rows, numbers, values, sketches)
		dst = append(dst, Pane{
			Key: g.key, Start: p.start, End: p.start + w.size, Rows: g.rows,
			Offset: g.offset, Epoch: g.epoch, Values: results[from:len(results):len(results)],
		})
	}
	if len(p.groups) >= cap(p.groups)/4 {
		p.reset()
		w.spare = p
	}
	return dst
}

// reset empties p. It leaves the sketches where they are: grow takes them up.
func (p *pane) reset() {
	clear(p.index)
	clear(p.groups)
	clear(p.values)
	p.groups, p.numbers, p.values, p.sketches = p.groups[:0], p.numbers[:0], p.values[:0], p.sketches[:0]
}

const stateVersion = 1

// AppendState writes the watermark and the open panes.
func (w *Tumbling) AppendState(b []byte) []byte {
	b = append(b, stateVersion)
	if !w.started {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = appendInt(b, int64(w.watermark))
	}
	b = appendUint(b, uint64(len(w.open)))
	for _, p := range w.open {
		b = appendInt(b, int64(p.start))
		b = appendUint(b, uint64(len(p.groups)))
		for i := range p.groups {
			g := &p.groups[i]
			b = appendText(b, g.key)
			b = appendUint(b, g.rows)
			b = appendUint(b, g.offset)
			b = appendUint(b, g.epoch)
			numbers, values, sketches := w.slabs(p, i)
			for _, f := range numbers {
				b = appendFloat(b, f)
			}
			for _, v := range values {
				b = appendInt(b, int64(v.time))
				b = appendValue(b, v.Value)
			}
			for _, s := range sketches {
				b = s.appendState(b)
			}
		}
	}
	return b
}

// RestoreState takes up what AppendState wrote.
func (w *Tumbling) RestoreState(b []byte) error {
	r := &reader{b: b}
	w.Flush(nil)
	if r.byte() != stateVersion {
		r.fail(errDamaged)
	}
	if r.byte() != 0 {
		w.watermark, w.started = event.Time(r.int()), true
	}
	for n := r.count(3); n > 0 && r.err == nil; n-- {
		w.readPane(r)
	}
	if len(r.b) > 0 {
		r.fail(errDamaged)
	}
	if r.err != nil {
		w.Flush(nil)
	}
	return r.err
}

func (w *Tumbling) readPane(r *reader) {
	start := event.Time(r.int())
	if start < 0 || start >= MaxTime || start%w.size != 0 ||
		len(w.open) > 0 && w.open[len(w.open)-1].start >= start {
		r.fail(errDamaged)
		return
	}
	p := w.pane(start)
	n := r.count(4)
	if n == 0 {
		r.fail(errDamaged)
	}
	for ; n > 0 && r.err == nil; n-- {
		key := r.text()
		if _, twice := p.index[key]; twice {
			r.fail(errDamaged)
			return
		}
		i := w.grow(p, key)
		g := &p.groups[i]
		g.rows, g.offset, g.epoch = r.uint(), r.uint(), r.uint()
		numbers, values, sketches := w.slabs(p, int(i))
		for j := range numbers {
			numbers[j] = r.float()
		}
		for j := range values {
			values[j] = stamped{time: event.Time(r.int()), Value: r.value()}
		}
		for j := range sketches {
			sketches[j] = readSketch(r, w.mapping)
			if sketches[j].GetCount() != float64(g.rows) {
				r.fail(errDamaged)
			}
		}
		if g.rows == 0 {
			r.fail(errDamaged)
		}
	}
}
