package bus

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/devices/gpio"
)

// two are lines that have the levels.
type two struct{ levels []bool }

func (l *two) Levels() ([]bool, error) { return slices.Clone(l.levels), nil }
func (l *two) Close() error            { return nil }

// The kernel cannot debounce the lines of expanders and USB adapters.
func TestLinesThatTheKernelDoesNotDebounceAreDebouncedAllTheSame(t *testing.T) {
	const period = 10 * time.Millisecond
	type change struct {
		line  int
		level bool
		after time.Duration // since the one before
	}
	for _, c := range []struct {
		name    string
		edges   gpio.Edges
		changes []change
		lost    uint32 // before the last change
		want    []gpio.Edge
	}{
		{"a bounce is one edge", gpio.Both, []change{{0, true, 0}, {0, false, 1}, {0, true, 1}}, 0,
			[]gpio.Edge{{Line: 0, Rising: true, Number: 1, Stamp: 2*time.Millisecond + period}}},
		{"a spike is none", gpio.Both, []change{{0, true, 0}, {0, false, 9}}, 0, nil},
		{"lines do not disturb each other", gpio.Both, []change{{0, true, 0}, {1, false, 5}}, 0,
			[]gpio.Edge{{Line: 0, Rising: true, Number: 1, Stamp: period}, {Line: 1, Rising: false, Number: 2, Stamp: 5*time.Millisecond + period}}},
		{"only those that are wanted", gpio.Falling, []change{{0, true, 0}, {0, false, 20}}, 0,
			[]gpio.Edge{{Line: 0, Rising: false, Number: 1, Stamp: 20*time.Millisecond + period}}},
		{"lost changes show as a gap", gpio.Both, []change{{0, true, 0}, {0, false, 20}, {0, true, 20}}, 3,
			[]gpio.Edge{{Line: 0, Rising: true, Number: 1, Stamp: period}, {Line: 0, Rising: false, Number: 2, Stamp: 20*time.Millisecond + period},
				{Line: 0, Rising: true, Number: 6, Stamp: 40*time.Millisecond + period}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []gpio.Edge
				d := newDebouncer(gpio.InputConfig{Debounce: period, Edges: c.edges}, 2, func(e gpio.Edge) {
					e.At = time.Time{}
					got = append(got, e)
				})
				in, err := d.begin(&two{[]bool{false, true}})
				if err != nil {
					t.Fatal(err)
				}
				var at time.Duration
				number := uint32(0)
				for i, ch := range c.changes {
					time.Sleep(ch.after * time.Millisecond)
					at += ch.after * time.Millisecond
					if number++; i == len(c.changes)-1 {
						number += c.lost
					}
					d.change(ch.line, ch.level, at, number)
					synctest.Wait()
				}
				time.Sleep(2 * period)
				synctest.Wait()
				if !slices.Equal(got, c.want) {
					t.Errorf("edges %+v\nwant  %+v", got, c.want)
				}
				want := []bool{false, true}
				for _, e := range c.want {
					want[e.Line] = e.Rising
				}
				if levels, err := in.Levels(); err != nil || c.edges == gpio.Both && !slices.Equal(levels, want) {
					t.Errorf("levels %v, %v; want %v", levels, err, want)
				}
				d.change(0, !want[0], at, number+1)
				if err := in.Close(); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * period)
				if len(got) != len(c.want) {
					t.Error("an edge was told after the end")
				}
			})
		})
	}
}
