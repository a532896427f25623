package window

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

func TestARefusedRowChangesNothing(t *testing.T) {
	sum, p50, first, countIf := Functions[2], "p50", "first", "count_if"
	aggs := append([]Aggregate{{Func: &sum}}, aggregatesOf(t, p50, first, countIf)...)
	aggs[2].Input, aggs[3].Input = 1, 2
	w := newWindow(t, Config{Assign: Tumbling{time.Second}, MaxKeys: 2}, aggs)
	good := Row{Key: "a", Time: 5e9, Values: []Value{Num(1), Str("x"), Truth(true)}}
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
		"no truth":   {with(func(r *Row) { r.Values[2] = Num(1) }), ErrTruth},
		"a list":     {with(func(r *Row) { r.Values[1] = listOf(nil) }), ErrValue},
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
	if _, err := w.Add(nil, with(func(r *Row) { r.Values = r.Values[:1] })); err == nil {
		t.Error("a row with too few values was taken")
	}
}

func TestSumsOfManySmallNumbersStayExact(t *testing.T) {
	for _, assign := range []Assigner{Tumbling{time.Hour}, Hopping{time.Hour, time.Minute}} {
		w := newWindow(t, Config{Assign: assign}, aggregatesOf(t, "sum"))
		rows := []float64{1e16}
		for range 10000 {
			rows = append(rows, 1)
		}
		for i, f := range append(rows, -1e16) {
			if _, err := w.Add(nil, Row{Time: event.Time(time.Hour) + event.Time(i)*3e8, Values: []Value{Num(f)}}); err != nil {
				t.Fatal(err)
			}
		}
		panes := w.Flush(nil)
		for _, p := range panes {
			if p.Rows == 10002 && p.Values[0].Num != 10000 {
				t.Errorf("%T: got %v, want 10000", assign, p.Values[0].Num)
			}
		}
	}
}

func TestASketchOfHostileNumbersStaysSmallAndRestores(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	aggs := aggregatesOf(t, "p50", "p99")
	cfg := Config{Assign: Tumbling{time.Hour}}
	w, other := newWindow(t, cfg, aggs), newWindow(t, cfg, aggs)
	for range 20000 {
		f := math.Pow(10, r.Float64()*600-300)
		if r.IntN(2) == 0 {
			f = -f
		}
		for _, w := range []*Window{w, other} {
			if _, err := w.Add(nil, Row{Values: []Value{Num(f)}}); err != nil {
				t.Fatal(err)
			}
		}
		if r.IntN(1000) == 0 {
			b := w.AppendState(nil)
			if len(b) > 4*2*maxBins+200 {
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

// distinct is exact to 256 values; beyond, an error of more than four standard
// errors would be one in 16,000.
func TestDistinctKeepsItsError(t *testing.T) {
	for _, n := range []int{1, 255, 256, 257, 1000, 10000, 100000} {
		for _, assign := range []Assigner{Tumbling{time.Hour}, Hopping{time.Hour, 15 * time.Minute}} {
			w := newWindow(t, Config{Assign: assign}, aggregatesOf(t, "distinct"))
			for i := range n {
				v := Num(float64(i))
				if i%2 == 1 {
					v = Str(fmt.Sprint("board-", i))
				}
				for range 1 + i%2 {
					if _, err := w.Add(nil, Row{Time: event.Time(time.Hour) + event.Time(i)*event.Time(time.Hour)/event.Time(n), Values: []Value{v}}); err != nil {
						t.Fatal(err)
					}
				}
			}
			whole := w.Advance(nil, event.Time(2*time.Hour))
			got := whole[len(whole)-1].Values[0].Num
			if miss := math.Abs(got-float64(n)) / float64(n); miss > 4*0.023 || n <= maxExact && miss > 0 {
				t.Errorf("%T: of %d different values %v were counted", assign, n, got)
			}
		}
	}
}

func TestTopkFindsWhatIsFrequentAmongManyRareValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f, _ := Lookup("topk")
	for _, assign := range []Assigner{Tumbling{time.Hour}, Hopping{time.Hour, 10 * time.Minute}} {
		w := newWindow(t, Config{Assign: assign}, []Aggregate{{Func: f, Params: []float64{3}}})
		const n = 20000
		counts := map[string]int{}
		for i := range n {
			v := fmt.Sprint("rare", r.IntN(5000))
			if i%4 > 0 {
				v = fmt.Sprint("often", i%4)
			}
			counts[v]++
			if _, err := w.Add(nil, Row{Time: event.Time(time.Hour) + event.Time(i)*event.Time(time.Hour)/n, Values: []Value{Str(v)}}); err != nil {
				t.Fatal(err)
			}
		}
		panes := w.Advance(nil, event.Time(2*time.Hour))
		for _, item := range panes[len(panes)-1].Values[0].Items.Values {
			v, count := item.Items.Values[0].Text, int(item.Items.Values[1].Num)
			if !strings.HasPrefix(v, "often") || count < counts[v] || count > counts[v]+n/64 {
				t.Errorf("%T: %s has %d, counted %d", assign, v, counts[v], count)
			}
		}
	}
}

func TestKeysThatComeAndGoTakeNoMemoryForGood(t *testing.T) {
	for _, assign := range []Assigner{Tumbling{time.Second}, Sliding{time.Second}, Session{time.Second}, Count{10}} {
		w := newWindow(t, Config{Assign: assign, MaxKeys: 100, Expire: time.Second, InOrder: true}, aggregatesOf(t, "sum", "increase", "distinct"))
		now := event.Time(1e18)
		for i := range 20000 {
			now += 1e8
			w.Advance(nil, now)
			if _, err := w.Add(nil, Row{Key: fmt.Sprint("visitor-", i), Time: now, Values: []Value{Num(1)}}); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(w.keys.index); n > 4000 {
			t.Errorf("%T: %d keys are remembered", assign, n)
		}
		if n := len(w.groups.at); n > 300 {
			t.Errorf("%T: there is memory for %d groups", assign, n)
		}
	}
}

func TestLastSamplesAreBounded(t *testing.T) {
	w := newWindow(t, Config{Assign: Tumbling{time.Second}, MaxKeys: 10, InOrder: true}, aggregatesOf(t, "increase"))
	now := event.Time(1e18)
	for i := range 1000 {
		now += 1e9
		w.Advance(nil, now)
		if _, err := w.Add(nil, Row{Key: fmt.Sprint("visitor-", i), Time: now, Values: []Value{Num(1)}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.kind.(*aligned).carried; n > 20 {
		t.Errorf("%d last samples are kept", n)
	}
}

func TestNewRefusesWhatCannotBe(t *testing.T) {
	f := func(name string, params ...float64) []Aggregate {
		fn, _ := Lookup(name)
		return []Aggregate{{Func: fn, Params: params}}
	}
	tumbling := Tumbling{time.Second}
	for want, tt := range map[string]struct {
		cfg  Config
		aggs []Aggregate
	}{
		"length of a tumbling window": {Config{Assign: Tumbling{}}, nil},
		"longer than the window":      {Config{Assign: Hopping{time.Second, 2 * time.Second}}, nil},
		"at most 1000 are possible":   {Config{Assign: Hopping{time.Hour, 3599 * time.Second}}, nil},
		"length of a sliding window":  {Config{Assign: Sliding{400 * 24 * time.Hour}}, nil},
		"gap of a session":            {Config{Assign: Session{-1}}, nil},
		"count window of 0 rows":      {Config{Assign: Count{}}, nil},
		"expire":                      {Config{Assign: tumbling, Expire: -1}, nil},
		"max keys":                    {Config{Assign: tumbling, MaxKeys: -1}, nil},
		"no function":                 {Config{Assign: tumbling}, []Aggregate{{}}},
		"no input":                    {Config{Assign: tumbling}, []Aggregate{{Func: &Functions[2], Input: -1}}},
		"percentile needs p":          {Config{Assign: tumbling}, f("percentile")},
		"p of percentile is 101":      {Config{Assign: tumbling}, f("percentile", 101)},
		"must be between 0 and 100":   {Config{Assign: tumbling}, f("percentile", math.NaN())},
		"histogram needs bound":       {Config{Assign: tumbling}, f("histogram")},
		"must ascend: 1 follows 2":    {Config{Assign: tumbling}, f("histogram", 2, 1)},
		"a whole number":              {Config{Assign: tumbling}, f("topk", 1.5)},
		"n of collect is 1001":        {Config{Assign: tumbling}, f("collect", 1001)},
		"sum takes fewer parameters":  {Config{Assign: tumbling}, f("sum", 1)},
	} {
		if _, err := New(tt.cfg, tt.aggs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestSignatures(t *testing.T) {
	for name, want := range map[string]string{
		"count": "count()", "count_if": "count_if(condition)", "sum": "sum(x)", "percentile": "percentile(x, p)",
		"histogram": "histogram(x, bound, …)", "collect": "collect(x, n = 100)",
	} {
		if f, _ := Lookup(name); f.Signature() != want {
			t.Errorf("got %s, want %s", f.Signature(), want)
		}
	}
}

func TestStateOfAnotherWindowIsRefused(t *testing.T) {
	from := newWindow(t, Config{Assign: Tumbling{time.Second}}, aggregatesOf(t, "sum"))
	if _, err := from.Add(nil, Row{Time: 3e9, Values: []Value{Num(1)}}); err != nil {
		t.Fatal(err)
	}
	state := from.AppendState(nil)
	for name, tt := range map[string]struct {
		assign Assigner
		state  []byte
	}{
		"another kind":    {Session{time.Second}, state},
		"another length":  {Tumbling{2 * time.Second}, state},
		"cut off":         {Tumbling{time.Second}, state[:len(state)-1]},
		"too long":        {Tumbling{time.Second}, append(slices.Clone(state), 0)},
		"a later version": {Tumbling{time.Second}, append([]byte{99}, state[1:]...)},
		"empty":           {Tumbling{time.Second}, nil},
	} {
		w := newWindow(t, Config{Assign: tt.assign}, aggregatesOf(t, "sum"))
		empty := w.AppendState(nil)
		if _, err := w.Add(nil, Row{Time: 3e9, Values: []Value{Num(1)}}); err != nil {
			t.Fatal(err)
		}
		if err := w.RestoreState(tt.state); err == nil {
			t.Errorf("%s: it was taken", name)
		}
		if !bytes.Equal(empty, w.AppendState(nil)) {
			t.Errorf("%s: the window is not empty", name)
		}
	}
}

// fuzzWindow is a window of a kind with every aggregate.
func fuzzWindow(t testing.TB, kind int) *Window {
	assign := []Assigner{
		Tumbling{time.Second}, Hopping{3 * time.Second, 2 * time.Second}, Sliding{5 * time.Second},
		Session{time.Second}, Count{3}, State{},
	}
	aggs := allAggregates()
	if kind/len(assign)%2 == 1 {
		aggs = unorderedAggregates()
	}
	return newWindow(t, Config{Assign: assign[kind%len(assign)], MaxKeys: 10, MaxRows: 100, Expire: 20 * time.Second}, aggs)
}

func FuzzRestoreState(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for kind := range 12 {
		w := fuzzWindow(f, kind)
		f.Add(byte(kind), w.AppendState(nil))
		now := event.Time(1e18)
		for i := range 40 {
			now += 3e8
			w.Advance(nil, now-3e9)
			_, _ = w.Add(nil, randomRow(r, 4, now, i, 3*time.Second))
		}
		f.Add(byte(kind), w.AppendState(nil))
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		w, again := fuzzWindow(t, int(kind)), fuzzWindow(t, int(kind))
		if err := w.RestoreState(b); err != nil {
			if !bytes.Equal(w.AppendState(nil), again.AppendState(nil)) {
				t.Error("a window that could not be restored is not empty")
			}
			return
		}
		state := w.AppendState(nil)
		if err := again.RestoreState(state); err != nil {
			t.Fatalf("its own state: %v", err)
		}
		if !slices.Equal(state, again.AppendState(nil)) {
			t.Error("the state is not stable")
		}
		r := rand.New(rand.NewPCG(1, 1))
		now, _ := w.Watermark()
		for i := range 5 {
			w.Early(nil)
			w.Due()
			_, _ = w.Add(nil, randomRow(r, 4, max(now, 4e9), i, 3*time.Second))
			w.Advance(nil, now+event.Time(i))
		}
		w.Flush(nil)
	})
}

// A device may say that it is the year 2222; that must not cost the time of all
// windows in between.
func TestAGapOfCenturiesCostsNothing(t *testing.T) {
	for kind := range 12 {
		w := fuzzWindow(t, kind)
		for i, at := range []event.Time{1e9, MaxTime - 1} {
			row := randomRow(rand.New(rand.NewPCG(1, 1)), 1, at, i, 1)
			row.Time = at
			if _, err := w.Add(nil, row); err != nil {
				t.Fatal(err)
			}
		}
		w.Early(nil)
		w.Advance(nil, 5e17)
		w.Early(nil)
		w.Advance(nil, MaxTime)
		w.Flush(nil)
	}
}

func TestAMeterIsRememberedWhileThousandsOfKeysPass(t *testing.T) {
	w := newWindow(t, Config{Assign: Tumbling{time.Second}, InOrder: true}, aggregatesOf(t, "increase"))
	now := event.Time(1e18)
	var panes []Pane
	add := func(key string, reading float64) {
		now += 1e9
		panes = w.Advance(nil, now)
		if _, err := w.Add(panes, Row{Key: key, Time: now, Values: []Value{Num(reading)}}); err != nil {
			t.Fatal(err)
		}
	}
	add("meter", 100)
	for i := range 5000 {
		add(fmt.Sprint("visitor-", i), 1)
	}
	add("meter", 105)
	add("visitor", 1)
	if len(panes) != 1 || panes[0].Key != "meter" || panes[0].Values[0] != Num(5) {
		t.Errorf("got %v, want an increase of 5", panes)
	}
}
