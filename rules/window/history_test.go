package window

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

// The inputs of test rows: a number, anything, a truth value, a counter.
const (
	aNumber = iota
	aValue
	aTruth
	aCounter
)

// allAggregates has every function, over the input that suits it.
func allAggregates() []Aggregate {
	var all []Aggregate
	for i := range Functions {
		f := &Functions[i]
		a := Aggregate{Func: f}
		switch f.Input {
		case Truths:
			a.Input = aTruth
		case Anything:
			a.Input = aValue
		}
		switch f.Name {
		case "rate", "increase":
			a.Input = aCounter
		case "percentile":
			a.Params = []float64{33.3}
		case "histogram":
			a.Params = []float64{-50, 0, 50}
		case "collect":
			a.Params = []float64{4}
		case "topk":
			a.Params = []float64{3}
		}
		all = append(all, a)
	}
	return all
}

// unorderedAggregates are those that take rows in any order.
func unorderedAggregates() []Aggregate {
	return slices.DeleteFunc(allAggregates(), func(a Aggregate) bool { return a.Func.ordered })
}

func aggregatesOf(t testing.TB, names ...string) []Aggregate {
	t.Helper()
	var all []Aggregate
	for _, name := range names {
		f, ok := Lookup(name)
		if !ok {
			t.Fatalf("no function %q", name)
		}
		all = append(all, Aggregate{Func: f})
	}
	return all
}

func newWindow(t testing.TB, cfg Config, aggs []Aggregate) *Window {
	t.Helper()
	w, err := New(cfg, aggs)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// closeTo accepts what the package promises: 1 % for percentiles, rounding for
// the rest.
func closeTo(t *testing.T, aggs []Aggregate, got, want []Pane) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d panes, want %d\ngot  %v\nwant %v", len(got), len(want), got, want)
	}
	for i := range got {
		g, w := got[i], want[i]
		g.Values = slices.Clone(g.Values)
		for j := range w.Values {
			tolerance := 1e-9
			if aggs[j].Func.state == reflect.TypeFor[distribution]() {
				tolerance = accuracy * 1.0000001
			}
			if w.Values[j].Kind == Number && math.Abs(g.Values[j].Num-w.Values[j].Num) <= tolerance*math.Abs(w.Values[j].Num)+1e-7 {
				g.Values[j] = w.Values[j]
			}
		}
		if !reflect.DeepEqual(w, g) {
			t.Fatalf("pane %d (-want +got):\n%s", i, gocmp.Diff(w, g))
		}
	}
}

// randomConfig makes windows of a kind short enough for a history to close many.
func randomConfig(r *rand.Rand, kind string) Config {
	d := func(least, most int) time.Duration {
		return time.Duration(least+r.IntN(most-least+1)) * time.Second
	}
	cfg := Config{MaxKeys: 5, MaxRows: 1 + r.IntN(200), InOrder: r.IntN(3) == 0}
	if r.IntN(2) == 0 {
		cfg.Expire = d(2, 40)
	}
	switch kind {
	case "tumbling":
		cfg.Assign = Tumbling{d(1, 20)}
	case "hopping":
		every := d(1, 6)
		cfg.Assign = Hopping{Size: every + d(0, 20), Every: every}
	case "sliding":
		cfg.Assign = Sliding{d(1, 120)}
	case "session":
		cfg.Assign = Session{d(1, 6)}
	case "count":
		cfg.Assign = Count{1 + r.IntN(9)}
	case "state":
		cfg.Assign = State{}
	}
	return cfg
}

func randomRow(r *rand.Rand, keys int, now event.Time, i int, spread time.Duration) Row {
	return Row{
		Key:    fmt.Sprint("k", r.IntN(keys)),
		Time:   now - event.Time(r.Int64N(int64(spread)))/1e8*1e8, // some at one time
		Offset: uint64(i), Epoch: 7, Holds: r.IntN(4) > 0,
		Values: []Value{Num(r.NormFloat64() * 100), randomValue(r), Truth(r.IntN(2) == 0), Num(float64(i*10%700 + r.IntN(20)))},
	}
}

func randomValue(r *rand.Rand) Value {
	return []Value{Num(float64(r.IntN(9))), Str(fmt.Sprint("t", r.IntN(9))), Truth(true), Truth(false), {}}[r.IntN(5)]
}

var kinds = []string{"tumbling", "hopping", "sliding", "session", "count", "state"}

var seeds = flag.Uint64("seeds", 60, "random histories of each kind of window")

// Late, duplicated and out-of-order rows, early results, flushes, and at random
// points the state is taken to another window. A twin is left alone: it must
// give the same panes to the bit.
func TestPanesEqualTheSlowReference(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			for seed := range *seeds {
				t.Run(fmt.Sprint(seed), func(t *testing.T) { history(t, kind, seed) })
			}
		})
	}
}

func history(t *testing.T, kind string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	cfg, aggs := randomConfig(r, kind), allAggregates()
	if r.IntN(2) == 0 {
		aggs = unorderedAggregates()
	}
	keys := 7
	if seed%4 == 0 {
		keys = 1 // then sliding windows have several chunks
	}
	visitors := seed%3 == 0 // keys that come once
	if visitors {
		cfg.MaxKeys = 60
	}
	w, twin := newWindow(t, cfg, aggs), newWindow(t, cfg, aggs)
	ref := newReference(cfg, aggs)
	now := event.Time(1e18)
	if seed%5 == 0 {
		now = 25e9 // panes that begin before 1970
	}
	grace := time.Duration(r.IntN(12)) * time.Second
	spread := time.Duration(1 + r.Int64N(int64(24*time.Second)))
	var last Row
	same := func(got, undisturbed, want []Pane) {
		t.Helper()
		closeTo(t, aggs, got, want)
		if len(got)+len(undisturbed) > 0 && !reflect.DeepEqual(undisturbed, got) {
			t.Fatalf("the window that was restored differs from its twin:\n%s", gocmp.Diff(undisturbed, got))
		}
	}
	for i := range 400 {
		switch r.IntN(30) {
		case 0: // carry the state over into another window
			b := w.AppendState(nil)
			if !bytes.Equal(b, twin.AppendState(nil)) {
				t.Fatal("the window and its twin write different states")
			}
			next := newWindow(t, cfg, aggs)
			if err := next.RestoreState(b); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b, next.AppendState(nil)) {
				t.Fatal("a restored window writes another state")
			}
			w = next
		case 1, 2:
			same(w.Early(nil), twin.Early(nil), ref.Early())
		case 3:
			if r.IntN(4) == 0 {
				same(w.Flush(nil), twin.Flush(nil), ref.Flush())
			}
		case 4: // silence
			now += event.Time(r.Int64N(300)) * 1e8
			same(w.Advance(nil, now), twin.Advance(nil, now), ref.Advance(now))
		default:
			now += event.Time(r.Int64N(11)) * 1e8 // so that times meet the bounds of panes
			same(w.Advance(nil, now.Add(-grace)), twin.Advance(nil, now.Add(-grace)), ref.Advance(now.Add(-grace)))
			row := randomRow(r, keys, now, i, spread)
			if visitors && r.IntN(3) == 0 {
				row.Key = fmt.Sprint("visitor", i)
			}
			if last.Values != nil && r.IntN(10) == 0 {
				row = last // again
			}
			last = row
			got, err := w.Add(nil, row)
			undisturbed, _ := twin.Add(nil, row)
			want, wantErr := ref.Add(row)
			if !errors.Is(err, wantErr) {
				t.Fatalf("step %d: add: got %v, want %v", i, err, wantErr)
			}
			same(got, undisturbed, want)
		}
		if due, open := w.Due(); open && i%7 == 0 {
			if twinDue, _ := twin.Due(); due != twinDue {
				t.Fatalf("due %v, the twin's is %v", due, twinDue)
			}
			if w.started && due <= w.watermark {
				t.Fatalf("due %v is not after the watermark %v", due, w.watermark)
			}
		}
	}
	same(w.Flush(nil), twin.Flush(nil), ref.Flush())
	if w.Keys() != 0 || w.Rows() != 0 {
		t.Errorf("after a flush there are %d keys and %d rows", w.Keys(), w.Rows())
	}
}

// Due is exact: one less closes nothing, and itself changes something.
func TestDueIsTheLeastWatermarkThatDoesSomething(t *testing.T) {
	for _, kind := range kinds {
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, 2))
			cfg := randomConfig(r, kind)
			w := newWindow(t, cfg, unorderedAggregates())
			now := event.Time(1e18)
			for i := range 60 {
				now += event.Time(r.Int64N(int64(time.Second)))
				w.Advance(nil, now.Add(-3*time.Second))
				if _, err := w.Add(nil, randomRow(r, 7, now, i, 5*time.Second)); err != nil && !errors.Is(err, ErrLate) && !errors.Is(err, ErrKeys) && !errors.Is(err, ErrRows) {
					t.Fatal(err)
				}
			}
			for steps := 0; ; steps++ {
				due, open := w.Due()
				if !open {
					break
				}
				if steps > 1000 {
					t.Fatalf("%s: due without end", kind)
				}
				before := w.Rows()
				if got := w.Advance(nil, due-1); len(got) > 0 {
					t.Fatalf("%s: closed before it was due: %v", kind, got)
				}
				if got := w.Advance(nil, due); len(got) == 0 && w.Rows() == before && w.held.len() == 0 {
					t.Fatalf("%s: nothing happened at %v", kind, due)
				}
			}
		}
	}
}
