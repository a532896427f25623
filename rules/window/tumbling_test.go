package window

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

var allAggs = []Aggregate{
	{Count, -1}, {Sum, 0}, {Avg, 0}, {Min, 0}, {Max, 0}, {P50, 0}, {P95, 0}, {P99, 0}, {First, 1}, {Last, 1}, {Sum, 2},
}

// reference keeps every row and computes panes the slow, obvious way.
type reference struct {
	size      event.Time
	maxKeys   int
	watermark event.Time
	started   bool
	rows      []Row
}

func (w *reference) Add(row Row) error {
	start := row.Time / w.size * w.size
	if w.started && start+w.size <= w.watermark {
		return ErrLate
	}
	keys := map[string]bool{row.Key: true}
	for _, r := range w.rows {
		if r.Time/w.size*w.size == start {
			keys[r.Key] = true
		}
	}
	if len(keys) > w.maxKeys {
		return ErrKeys
	}
	row.Values = slices.Clone(row.Values)
	w.rows = append(w.rows, row)
	return nil
}

func (w *reference) Advance(at event.Time) []Pane {
	if w.started && at <= w.watermark {
		return nil
	}
	w.watermark, w.started = at, true
	return w.take(func(end event.Time) bool { return end <= at })
}

func (w *reference) Flush() []Pane {
	w.watermark, w.started = 0, false
	return w.take(func(event.Time) bool { return true })
}

func (w *reference) take(closed func(end event.Time) bool) []Pane {
	type id struct {
		end event.Time
		key string
	}
	groups := map[id][]Row{}
	var rest []Row
	for _, r := range w.rows {
		end := r.Time/w.size*w.size + w.size
		if closed(end) {
			groups[id{end, r.Key}] = append(groups[id{end, r.Key}], r)
		} else {
			rest = append(rest, r)
		}
	}
	w.rows = rest
	var panes []Pane
	for at, rows := range groups {
		last := rows[len(rows)-1]
		panes = append(panes, Pane{Key: at.key, Start: at.end - w.size, End: at.end, Rows: uint64(len(rows)),
			Offset: last.Offset, Epoch: last.Epoch, Values: slowly(rows)})
	}
	slices.SortFunc(panes, func(a, b Pane) int {
		return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Key, b.Key))
	})
	return panes
}

func slowly(rows []Row) []Value {
	column := func(i int) (all []float64) {
		for _, r := range rows {
			all = append(all, r.Values[i].Num)
		}
		return all
	}
	sum := func(all []float64) (s float64) {
		for _, f := range all {
			s += f
		}
		return s
	}
	sorted := slices.Sorted(slices.Values(column(0)))
	at := func(percent int) float64 { return sorted[(len(sorted)*percent+99)/100-1] }
	first := slices.MinFunc(rows, func(a, b Row) int { return cmp.Compare(a.Time, b.Time) })
	last := rows[0]
	for _, r := range rows {
		if r.Time >= last.Time {
			last = r
		}
	}
	return []Value{
		Num(float64(len(rows))), Num(sum(column(0))), Num(sum(column(0)) / float64(len(rows))),
		Num(sorted[0]), Num(sorted[len(sorted)-1]), Num(at(50)), Num(at(95)), Num(at(99)),
		first.Values[1], last.Values[1], Num(sum(column(2))),
	}
}

// closeTo accepts what the package promises: 1 % for percentiles, rounding for
// the rest.
func closeTo(t *testing.T, got, want []Pane) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d panes, want %d\ngot  %v\nwant %v", len(got), len(want), got, want)
	}
	for i := range got {
		g, w := got[i], want[i]
		for j := range w.Values {
			tolerance := 1e-9
			if op := allAggs[j].Op; op >= P50 && op <= P99 {
				tolerance = accuracy * 1.0000001
			}
			if w.Values[j].Kind == Number && math.Abs(g.Values[j].Num-w.Values[j].Num) <= tolerance*math.Abs(w.Values[j].Num)+1e-9 {
				g.Values[j] = w.Values[j]
			}
		}
		if diff := gocmp.Diff(w, g); diff != "" {
			t.Fatalf("pane %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestPanesEqualTheSlowReference(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			size := time.Duration(1+r.IntN(20)) * time.Second
			w := NewTumbling(size, 5, allAggs)
			ref := &reference{size: event.Time(size), maxKeys: 5}
			now := event.Time(1e18)
			for i := range 600 {
				switch r.IntN(40) {
				case 0: // carry the state over into another window
					b := w.AppendState(nil)
					next := NewTumbling(size, 5, allAggs)
					if err := next.RestoreState(b); err != nil {
						t.Fatal(err)
					}
					if again := next.AppendState(nil); !slices.Equal(b, again) {
						t.Fatal("a restored window writes another state")
					}
					w = next
				case 1:
					closeTo(t, w.Flush(nil), ref.Flush())
				default:
					now += event.Time(r.Int64N(int64(time.Second)))
					closeTo(t, w.Advance(nil, now.Add(-3*time.Second)), ref.Advance(now.Add(-3*time.Second)))
					row := Row{
						Key:    fmt.Sprint("k", r.IntN(7)),
						Time:   now - event.Time(r.Int64N(int64(30*time.Second))),
						Offset: uint64(i), Epoch: 7,
						Values: []Value{Num(r.NormFloat64() * 100), anyValue(r), Num(r.Float64())},
					}
					_, err := w.Add(nil, row)
					if want := ref.Add(row); !errors.Is(err, want) {
						t.Fatalf("add: got %v, want %v", err, want)
					}
				}
				due, open := w.Due()
				if open != (len(ref.rows) > 0) {
					t.Fatalf("due: a pane is open: %v", open)
				}
				if open && !slices.ContainsFunc(ref.rows, func(r Row) bool { return r.Time < due && r.Time >= due-event.Time(size) }) {
					t.Fatalf("due %v is not the end of an open pane", due)
				}
			}
			closeTo(t, w.Flush(nil), ref.Flush())
		})
	}
}

func anyValue(r *rand.Rand) Value {
	return []Value{Num(r.Float64()), Str(fmt.Sprint("t", r.IntN(100))), Truth(true), Truth(false), {}}[r.IntN(5)]
}

func TestAPaneIsHalfOpen(t *testing.T) {
	w := NewTumbling(10*time.Second, 10, []Aggregate{{Count, -1}})
	add := func(at time.Duration) {
		if _, err := w.Add(nil, Row{Time: event.Time(at)}); err != nil {
			t.Fatal(err)
		}
	}
	add(10 * time.Second)
	add(20*time.Second - 1)
	add(20 * time.Second)
	if got := w.Advance(nil, event.Time(20*time.Second-1)); len(got) != 0 {
		t.Errorf("closed before its end: %v", got)
	}
	want := []Pane{{Start: 10e9, End: 20e9, Rows: 2, Values: []Value{Num(2)}}}
	if diff := gocmp.Diff(want, w.Advance(nil, event.Time(20*time.Second))); diff != "" {
		t.Error(diff)
	}
}

func TestARefusedRowChangesNothing(t *testing.T) {
	w := NewTumbling(time.Second, 2, []Aggregate{{Sum, 0}, {P50, 0}, {First, 1}})
	good := Row{Key: "a", Time: 5e9, Values: []Value{Num(1), Str("x")}}
	if _, err := w.Add(nil, good); err != nil {
		t.Fatal(err)
	}
	w.Advance(nil, 5e9)
	with := func(change func(*Row)) Row {
		row := good
		row.Values = slices.Clone(good.Values)
		change(&row)
		return row
	}
	if _, err := w.Add(nil, with(func(r *Row) { r.Key = "b" })); err != nil {
		t.Fatal(err)
	}
	before := w.AppendState(nil)
	for name, tt := range map[string]struct {
		row  Row
		want error
	}{
		"late":       {with(func(r *Row) { r.Time = 4e9 }), ErrLate},
		"third key":  {with(func(r *Row) { r.Key = "c" }), ErrKeys},
		"not finite": {with(func(r *Row) { r.Values[0] = Num(math.Inf(1)) }), ErrNumber},
		"NaN":        {with(func(r *Row) { r.Values[0] = Num(math.NaN()) }), ErrNumber},
		"too great":  {with(func(r *Row) { r.Values[0] = Num(-1.1e300) }), ErrNumber},
		"text":       {with(func(r *Row) { r.Values[0] = Str("1") }), ErrNumber},
		"before":     {with(func(r *Row) { r.Time = -1 }), ErrTime},
		"after":      {with(func(r *Row) { r.Time = MaxTime }), ErrTime},
	} {
		if _, err := w.Add(nil, tt.row); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if !slices.Equal(before, w.AppendState(nil)) {
			t.Errorf("%s: the state has changed", name)
		}
	}
}

func TestSumsOfManySmallNumbersStayExact(t *testing.T) {
	w := NewTumbling(time.Hour, 1, []Aggregate{{Sum, 0}})
	rows := []float64{1e16}
	for range 10000 {
		rows = append(rows, 1)
	}
	for _, f := range append(rows, -1e16) {
		if _, err := w.Add(nil, Row{Values: []Value{Num(f)}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.Flush(nil)[0].Values[0].Num; got != 10000 {
		t.Errorf("got %v, want 10000", got)
	}
}

func TestFirstAndLastGoByEventTime(t *testing.T) {
	w := NewTumbling(time.Hour, 1, []Aggregate{{First, 0}, {Last, 0}})
	for _, at := range []int{3, 1, 2, 1, 3, 2} {
		if _, err := w.Add(nil, Row{Time: event.Time(at), Offset: uint64(at), Values: []Value{Num(float64(at))}}); err != nil {
			t.Fatal(err)
		}
	}
	got := w.Flush(nil)[0]
	if diff := gocmp.Diff([]Value{Num(1), Num(3)}, got.Values); diff != "" {
		t.Error(diff)
	}
	if got.Offset != 2 {
		t.Errorf("the last event by arrival has offset 2, got %d", got.Offset)
	}
}

func TestASketchOfHostileNumbersStaysSmallAndRestores(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	w := NewTumbling(time.Hour, 1, []Aggregate{{P50, 0}, {P99, 0}})
	other := NewTumbling(time.Hour, 1, []Aggregate{{P50, 0}, {P99, 0}})
	for range 20000 {
		f := math.Pow(10, r.Float64()*600-300)
		if r.IntN(2) == 0 {
			f = -f
		}
		for _, w := range []*Tumbling{w, other} {
			if _, err := w.Add(nil, Row{Values: []Value{Num(f)}}); err != nil {
				t.Fatal(err)
			}
		}
		if r.IntN(1000) == 0 {
			b := w.AppendState(nil)
			if len(b) > 4*2*maxBins+100 {
				t.Fatalf("the state takes %d bytes", len(b))
			}
			if err := w.RestoreState(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := gocmp.Diff(other.Flush(nil), w.Flush(nil)); diff != "" {
		t.Error(diff)
	}
}

func FuzzRestoreState(f *testing.F) {
	w := NewTumbling(time.Second, 10, allAggs)
	f.Add(w.AppendState(nil))
	for i := range 30 {
		row := Row{Key: fmt.Sprint(i % 4), Time: event.Time(i) * 2e8, Values: []Value{Num(float64(i - 9)), Str("x"), Num(1)}}
		if _, err := w.Add(nil, row); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(w.AppendState(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := NewTumbling(time.Second, 10, allAggs)
		if err := w.RestoreState(b); err != nil {
			if _, open := w.Due(); open {
				t.Error("a window that could not be restored is not empty")
			}
			return
		}
		again := NewTumbling(time.Second, 10, allAggs)
		state := w.AppendState(nil)
		if err := again.RestoreState(state); err != nil {
			t.Fatalf("its own state: %v", err)
		}
		if !slices.Equal(state, again.AppendState(nil)) {
			t.Error("the state is not stable")
		}
		w.Flush(nil)
	})
}

func BenchmarkAdd(b *testing.B) {
	for _, keys := range []int{1, 100, 10000} {
		for name, aggs := range map[string][]Aggregate{
			"plain":  {{Count, -1}, {Avg, 0}, {Min, 0}, {Max, 0}, {Sum, 0}},
			"sketch": {{Count, -1}, {Avg, 0}, {Min, 0}, {Max, 0}, {P95, 0}},
		} {
			b.Run(fmt.Sprintf("keys=%d/%s", keys, name), func(b *testing.B) {
				b.ReportAllocs()
				names := make([]string, keys)
				for i := range names {
					names[i] = fmt.Sprintf("device-%d", i)
				}
				w := NewTumbling(10*time.Second, keys, aggs)
				values := []Value{Num(0)}
				for i := 0; b.Loop(); i++ {
					values[0].Num = 20 + float64(i%97)/10
					if _, err := w.Add(nil, Row{Key: names[i%keys], Time: 1e18, Values: values}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
