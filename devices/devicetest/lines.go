package devicetest

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"holdfast/devices/gpio"
)

// World is the other side of eight lines.
type World interface {
	Line(n int) gpio.Ref
	Set(n int, high bool)  // from outside
	High(n int) bool       // what the line carries
	Driven(n int) []string // what it was driven to, 0, 1 and in, since the beginning; nil if that cannot be told
	Unplug()               // the chip with all of them goes
	Plug()                 // and comes back
}

// Lines tests what gpio.Lines promises. settle is how long a change from outside
// takes to become an edge.
func Lines(t *testing.T, inTime func(*testing.T, func(*testing.T)), settle time.Duration, open func(t *testing.T) (gpio.Lines, World)) {
	test := func(name string, f func(t *testing.T, l gpio.Lines, w World)) {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T) {
				l, w := open(t)
				f(t, l, w)
			})
		})
	}
	inputs := func(t *testing.T, l gpio.Lines, c gpio.InputConfig, q *gpio.Queue, refs ...gpio.Ref) gpio.Inputs {
		t.Helper()
		in, err := l.Inputs(refs, c, q.Push)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close() })
		return in
	}

	test("an input has the level of the line", func(t *testing.T, l gpio.Lines, w World) {
		w.Set(0, true)
		time.Sleep(settle)
		in := inputs(t, l, gpio.InputConfig{}, gpio.NewQueue(), w.Line(0), w.Line(1))
		for _, high := range []bool{true, false, true} {
			w.Set(0, high)
			time.Sleep(settle)
			if got, err := in.Levels(); err != nil || !slices.Equal(got, []bool{high, false}) {
				t.Errorf("levels %v, %v; want %v", got, err, high)
			}
		}
	})
	test("active low turns levels and edges round", func(t *testing.T, l gpio.Lines, w World) {
		q := gpio.NewQueue()
		in := inputs(t, l, gpio.InputConfig{ActiveLow: true, Edges: gpio.Rising}, q, w.Line(0))
		if got, err := in.Levels(); err != nil || !got[0] {
			t.Errorf("a low line is %v, %v", got, err)
		}
		for _, high := range []bool{true, false} {
			w.Set(0, high)
			time.Sleep(settle)
		}
		if edges, lost := q.Take(); len(edges) != 1 || !edges[0].Rising || lost != 0 {
			t.Errorf("edges %v, %d lost", edges, lost)
		}
	})
	test("each edge is told once, with its time and its number", func(t *testing.T, l gpio.Lines, w World) {
		q := gpio.NewQueue()
		inputs(t, l, gpio.InputConfig{Edges: gpio.Both}, q, w.Line(0), w.Line(1))
		var before time.Duration
		for i := range 10 {
			began := time.Now()
			w.Set(i/2%2, i%2 == 0)
			select {
			case <-q.Wake():
			case <-time.After(patience):
				t.Fatalf("change %d is no edge", i)
			}
			time.Sleep(settle) // for one too many
			edges, lost := q.Take()
			if len(edges) != 1 || lost != 0 {
				t.Fatalf("change %d is %d edges, and %d were lost", i, len(edges), lost)
			}
			e := edges[0]
			if e.Line != i/2%2 || e.Rising != (i%2 == 0) || e.Number != uint32(i+1) {
				t.Errorf("edge %d: %+v", i, e)
			}
			if ended := time.Now(); e.At.Before(began) || e.At.After(ended) {
				t.Errorf("edge %d was at %v, and between %v and %v", i, e.At, began, ended)
			}
			if e.Stamp <= before && i > 0 {
				t.Errorf("edge %d at %v after %v", i, e.Stamp, before)
			}
			before = e.Stamp
		}
	})
	test("bouncing is one edge", func(t *testing.T, l gpio.Lines, w World) {
		q := gpio.NewQueue()
		inputs(t, l, gpio.InputConfig{Edges: gpio.Both, Debounce: 4 * settle}, q, w.Line(0))
		for i := range 11 {
			w.Set(0, i%2 == 0)
			time.Sleep(settle / 2)
		}
		time.Sleep(8 * settle)
		if edges, _ := q.Take(); len(edges) != 1 || !edges[0].Rising {
			t.Errorf("edges %+v", edges)
		}
	})
	test("an output has its level from the beginning on, without a glitch", func(t *testing.T, l gpio.Lines, w World) {
		for _, c := range []gpio.OutputConfig{{Initial: true}, {Initial: false, ActiveLow: true}, {Initial: false}} {
			before := len(w.Driven(2))
			out, err := l.Output(w.Line(2), c)
			if err != nil {
				t.Fatal(err)
			}
			high := c.Initial != c.ActiveLow
			if w.High(2) != high {
				t.Errorf("%+v: the line is high: %v", c, !high)
			}
			if seen := w.Driven(2); seen != nil {
				if word := map[bool]string{true: "1", false: "0"}[high]; !slices.Equal(seen[before:], []string{word}) {
					t.Errorf("%+v: driven to %v", c, seen[before:])
				}
			}
			for _, level := range []bool{true, false, true} {
				if err := out.Set(level); err != nil || w.High(2) != (level != c.ActiveLow) {
					t.Errorf("set %v: %v, the line is high: %v", level, err, w.High(2))
				}
			}
			if err := out.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	test("lines are lost with their chip, and there again when it is", func(t *testing.T, l gpio.Lines, w World) {
		for range 2 {
			in := inputs(t, l, gpio.InputConfig{Edges: gpio.Both}, gpio.NewQueue(), w.Line(0))
			out, err := l.Output(w.Line(2), gpio.OutputConfig{})
			if err != nil {
				t.Fatal(err)
			}
			if err := out.Check(); err != nil {
				t.Errorf("there: %v", err)
			}
			if err := out.Set(true); err != nil || !w.High(2) {
				t.Errorf("there: %v, the line is high: %v", err, w.High(2))
			}
			w.Unplug()
			_, err = in.Levels()
			for _, err := range []error{err, out.Check(), out.Set(false)} {
				if !errors.Is(err, gpio.ErrLost) {
					t.Errorf("gone: %v", err)
				}
			}
			_, err = l.Output(w.Line(2), gpio.OutputConfig{})
			if !errors.Is(err, syscall.ENOENT) {
				t.Errorf("gone, and opened: %v", err)
			}
			if err := errors.Join(in.Close(), out.Close()); err != nil {
				t.Error(err)
			}
			w.Plug()
		}
	})
	test("a line that is taken is busy", func(t *testing.T, l gpio.Lines, w World) {
		out, err := l.Output(w.Line(3), gpio.OutputConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Output(w.Line(3), gpio.OutputConfig{Initial: true}); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("a second output: %v", err)
		}
		if w.High(3) {
			t.Error("the attempt changed the line")
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
		if out, err = l.Output(w.Line(3), gpio.OutputConfig{}); err != nil {
			t.Fatalf("after it was given back: %v", err)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	})
}
