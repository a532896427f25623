package window

import (
	"cmp"
	"slices"

	"holdfast/gateway/event"
)

// reference is a window that keeps every row and works everything out anew,
// the slow and obvious way.
type reference struct {
	cfg     Config
	aggs    []Aggregate
	ordered bool

	watermark event.Time
	started   bool
	floor     event.Time
	n         int
	rows      []*refRow // not refused, since the last flush
	out       []Pane    // closed by the call at hand
}

type refRow struct {
	Row
	seq   int
	mark  event.Time // watermark when it came
	any   bool       // there was one
	taken bool       // its turn has come
	gone  bool       // its pane has closed (session, count, state)
	fresh bool       // taken since the last early results
}

func newReference(cfg Config, aggs []Aggregate) *reference {
	ref := &reference{cfg: cfg, aggs: aggs}
	switch cfg.Assign.(type) {
	case Sliding, Count, State:
		ref.ordered = true
	}
	for _, a := range aggs {
		switch a.Func.Name {
		case "rate", "increase", "time_avg":
			ref.ordered = true
		}
	}
	return ref
}

func (ref *reference) sizes() (size, every event.Time, aligned bool) {
	switch a := ref.cfg.Assign.(type) {
	case Tumbling:
		return event.Time(a.Size), event.Time(a.Size), true
	case Hopping:
		return event.Time(a.Size), event.Time(a.Every), true
	}
	return 0, 0, false
}

// lastEnd is the end of the last pane of an aligned window that holds t.
func (ref *reference) lastEnd(t event.Time) event.Time {
	size, every, _ := ref.sizes()
	return t/every*every + size
}

func (ref *reference) Add(row Row) ([]Pane, error) {
	ref.out = nil
	_, _, aligned := ref.sizes()
	s, isSession := ref.cfg.Assign.(Session)
	switch {
	case ref.ordered && row.Time < ref.floor:
		return nil, ErrLate
	case aligned && ref.started && ref.lastEnd(row.Time) <= ref.watermark:
		return nil, ErrLate
	case isSession && ref.started && row.Time.Add(s.Gap) <= ref.watermark:
		if !slices.ContainsFunc(ref.sessions(row.Key), func(rows []*refRow) bool {
			return row.Time < rows[len(rows)-1].Time.Add(s.Gap) && row.Time > rows[0].Time.Add(-s.Gap)
		}) {
			return nil, ErrLate
		}
	}
	live := map[string]bool{}
	kept := 0
	_, isSliding := ref.cfg.Assign.(Sliding)
	for _, r := range ref.rows {
		if ref.live(r) {
			live[r.Key] = true
			if !r.taken || isSliding {
				kept++
			}
		}
	}
	if !live[row.Key] && len(live) >= ref.cfg.MaxKeys {
		return nil, ErrKeys
	}
	waits := ref.ordered && !ref.cfg.InOrder && (!ref.started || row.Time > ref.watermark)
	if (waits || isSliding) && kept >= ref.cfg.MaxRows {
		return nil, ErrRows
	}
	row.Values = slices.Clone(row.Values)
	r := &refRow{Row: row, seq: ref.n, mark: ref.watermark, any: ref.started}
	ref.n++
	ref.rows = append(ref.rows, r)
	if !waits {
		ref.take(r)
	}
	return ref.sorted(), nil
}

// live tells whether the window still needs a row.
func (ref *reference) live(r *refRow) bool {
	_, _, aligned := ref.sizes()
	if r.gone {
		return false
	}
	switch a := ref.cfg.Assign.(type) {
	case Sliding:
		newest := ref.watermark
		if !ref.started {
			newest = -1e18
		}
		for _, other := range ref.rows {
			if other.taken {
				newest = max(newest, other.Time)
			}
		}
		return !r.taken || r.Time > newest.Add(-a.Size)
	case State:
		return !r.taken || r.Holds && !r.gone
	default:
		if aligned {
			return !r.taken || !ref.started || ref.lastEnd(r.Time) > ref.watermark
		}
		return !r.gone
	}
}

// of returns the rows of a key that have been taken and not gone, by time.
func (ref *reference) of(key string) []*refRow {
	var rows []*refRow
	for _, r := range ref.rows {
		if r.Key == key && r.taken && !r.gone {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *refRow) int { return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.seq, b.seq)) })
	return rows
}

func (ref *reference) keys() []string {
	var keys []string
	for _, r := range ref.rows {
		keys = append(keys, r.Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (ref *reference) take(r *refRow) {
	r.taken, r.fresh = true, true
	if ref.ordered {
		ref.floor = max(ref.floor, r.Time)
	}
	switch a := ref.cfg.Assign.(type) {
	case Sliding:
		rows := slices.DeleteFunc(ref.of(r.Key), func(o *refRow) bool {
			return o.Time <= r.Time.Add(-a.Size) || o.Time == r.Time && o.seq > r.seq
		})
		ref.emit(rows, nil, r.Time.Add(-a.Size), r.Time, r.Time)
	case Count:
		ref.expire(r.Key, r.Time, r)
		if rows := ref.of(r.Key); len(rows) == a.Rows {
			ref.gone(rows, rows[0].Time, r.Time)
		}
	case State:
		ref.expire(r.Key, r.Time, r)
		if !r.Holds {
			r.gone = true
			if rows := ref.of(r.Key); len(rows) > 0 {
				ref.gone(rows, rows[0].Time, r.Time)
			}
		}
	}
}

// expire closes the pane of a key whose last row, that at hand left out, is too
// old.
func (ref *reference) expire(key string, now event.Time, without *refRow) {
	rows := slices.DeleteFunc(ref.of(key), func(r *refRow) bool { return r == without })
	if n := len(rows); n > 0 && ref.cfg.Expire > 0 && rows[n-1].Time.Add(ref.cfg.Expire) <= now {
		ref.gone(rows, rows[0].Time, rows[n-1].Time)
		ref.out[len(ref.out)-1].Expired = true
	}
}

func (ref *reference) gone(rows []*refRow, start, end event.Time) {
	ref.emit(rows, nil, start, end, end)
	for _, r := range rows {
		r.gone = true
	}
}

func (ref *reference) emit(rows []*refRow, before *refRow, start, end, until event.Time) {
	p := Pane{Key: rows[0].Key, Start: start, End: end, Rows: uint64(len(rows))}
	for _, r := range rows {
		if r.Offset >= p.Offset {
			p.Offset, p.Epoch = r.Offset, r.Epoch
		}
	}
	for _, a := range ref.aggs {
		p.Values = append(p.Values, slowly(a, rows, before, start, until))
	}
	ref.out = append(ref.out, p)
}

func (ref *reference) sorted() []Pane {
	slices.SortStableFunc(ref.out, func(a, b Pane) int {
		return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Key, b.Key))
	})
	return ref.out
}

func (ref *reference) Advance(at event.Time) []Pane {
	ref.out = nil
	if ref.started && at <= ref.watermark {
		return nil
	}
	old := ref.watermark
	if !ref.started {
		old = -1
	}
	ref.release(at)
	ref.watermark, ref.started = at, true
	if ref.ordered {
		ref.floor = max(ref.floor, at)
	}
	ref.close(old, at)
	return ref.sorted()
}

func (ref *reference) release(at event.Time) {
	var waiting []*refRow
	for _, r := range ref.rows {
		if !r.taken && r.Time <= at {
			waiting = append(waiting, r)
		}
	}
	slices.SortFunc(waiting, func(a, b *refRow) int { return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.seq, b.seq)) })
	for _, r := range waiting {
		ref.take(r)
	}
}

// close closes what ends after old and at at or before.
func (ref *reference) close(old, at event.Time) {
	for _, key := range ref.keys() {
		switch a := ref.cfg.Assign.(type) {
		case Tumbling, Hopping:
			for _, end := range ref.ends(key) {
				if end > old && end <= at {
					ref.aligned(key, end, end, false)
				}
			}
		case Session:
			for _, rows := range ref.sessions(key) {
				if end := rows[len(rows)-1].Time.Add(a.Gap); end <= at {
					ref.gone(rows, rows[0].Time, end)
				}
			}
		case Count, State:
			ref.expire(key, at, nil)
		}
	}
}

func (ref *reference) sessions(key string) [][]*refRow {
	var all [][]*refRow
	for _, r := range ref.of(key) {
		if n := len(all); n > 0 && r.Time-all[n-1][len(all[n-1])-1].Time < event.Time(ref.cfg.Assign.(Session).Gap) {
			all[n-1] = append(all[n-1], r)
		} else {
			all = append(all, []*refRow{r})
		}
	}
	return all
}

// ends are the ends of all aligned panes that rows of the key belong to.
func (ref *reference) ends(key string) []event.Time {
	size, every, _ := ref.sizes()
	var ends []event.Time
	for _, r := range ref.of(key) {
		for end := ref.lastEnd(r.Time); end > r.Time; end -= every {
			ends = append(ends, end)
		}
	}
	_ = size
	slices.Sort(ends)
	return slices.Compact(ends)
}

// aligned emits the pane of a key that ends at end. A row does not count in
// panes that had closed when it came.
func (ref *reference) aligned(key string, end, until event.Time, early bool) {
	size, _, _ := ref.sizes()
	var rows []*refRow
	var before *refRow
	fresh := false
	for _, r := range ref.of(key) {
		switch {
		case r.Time < end-size:
			before = r
		case r.Time < end && !(r.any && end <= r.mark):
			rows = append(rows, r)
			fresh = fresh || r.fresh
		}
	}
	if len(rows) == 0 || early && !fresh {
		return
	}
	if before != nil && ref.cfg.Expire > 0 && rows[0].Time-before.Time >= event.Time(ref.cfg.Expire) {
		before = nil
	}
	if early {
		until = min(end, rows[len(rows)-1].Time)
	}
	ref.emit(rows, before, end-size, end, until)
	ref.out[len(ref.out)-1].Early = early
}

func (ref *reference) Early() []Pane {
	ref.out = nil
	for _, key := range ref.keys() {
		var groups [][]*refRow
		end := func(rows []*refRow) event.Time { return rows[len(rows)-1].Time }
		switch a := ref.cfg.Assign.(type) {
		case Tumbling, Hopping:
			for _, end := range ref.ends(key) {
				if !ref.started || end > ref.watermark {
					ref.aligned(key, end, end, true)
				}
			}
		case Session:
			groups = ref.sessions(key)
			end = func(rows []*refRow) event.Time { return rows[len(rows)-1].Time.Add(a.Gap) }
		case Count, State:
			if rows := ref.of(key); len(rows) > 0 {
				groups = append(groups, rows)
			}
		}
		for _, rows := range groups {
			if slices.ContainsFunc(rows, func(r *refRow) bool { return r.fresh }) {
				ref.emit(rows, nil, rows[0].Time, end(rows), rows[len(rows)-1].Time)
				ref.out[len(ref.out)-1].Early = true
			}
		}
	}
	for _, r := range ref.rows {
		r.fresh = false
	}
	return ref.sorted()
}

func (ref *reference) Flush() []Pane {
	ref.out = nil
	old := ref.watermark
	if !ref.started {
		old = -1
	}
	ref.release(MaxTime)
	for _, key := range ref.keys() {
		switch ref.cfg.Assign.(type) {
		case Count, State:
			if rows := ref.of(key); len(rows) > 0 {
				ref.gone(rows, rows[0].Time, rows[len(rows)-1].Time)
			}
		}
	}
	if _, isState := ref.cfg.Assign.(State); !isState {
		if _, isCount := ref.cfg.Assign.(Count); !isCount {
			ref.close(old, 9e18)
		}
	}
	ref.rows, ref.watermark, ref.floor, ref.started = nil, 0, 0, false
	return ref.sorted()
}
