package main

import (
	"testing"
	"time"
)

func TestOneProcessorIsUsedOnlyWhileALonePublisherIsAllThereIsToDo(t *testing.T) {
	type second struct {
		commits uint64  // for a lone publisher
		load    float64 // of one processor
		one     bool    // what is to come of it
	}
	for name, seconds := range map[string][]second{
		"a lone publisher":           {{14000, 0.6, true}, {14000, 0.6, true}},
		"nothing to do":              {{0, 0, false}, {3, 0.1, false}},
		"many publishers":            {{0, 1.9, false}, {0, 1.9, false}},
		"it goes":                    {{14000, 0.6, true}, {10, 0.1, false}},
		"others come":                {{14000, 0.6, true}, {600, 0.97, false}},
		"others come and stay a bit": {{14000, 0.6, true}, {9000, 0.9, false}, {14000, 0.6, false}, {14000, 0.6, false}, {14000, 0.6, false}, {14000, 0.6, false}, {14000, 0.6, false}, {14000, 0.6, true}},
		"a backlog is being drained": {{2000, 1.5, false}, {2000, 1.5, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var f fit
			now, commits, cpu := time.Unix(1000, 0), uint64(500), time.Minute
			f.step(now, commits, cpu)
			if f.one {
				t.Fatal("it is decided before anything was measured")
			}
			for i, s := range seconds {
				now, commits, cpu = now.Add(time.Second), commits+s.commits, cpu+time.Duration(s.load*float64(time.Second))
				if f.step(now, commits, cpu); f.one != s.one {
					t.Errorf("after %d s one processor: %v, want %v", i+1, f.one, s.one)
				}
			}
		})
	}
}

func TestImmediateRulesHaveTwoProcessorsEvenWhereThereIsOne(t *testing.T) {
	for _, c := range []struct {
		all         int
		one, reacts bool
		want        int
	}{
		{1, false, false, 1}, {1, true, false, 1}, {1, false, true, 2}, {1, true, true, 2},
		{4, false, false, 4}, {4, true, false, 1}, {4, false, true, 4}, {4, true, true, 4},
	} {
		f := fit{all: c.all, one: c.one}
		if got := f.processors(c.reacts); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
