package window

import "holdfast/gateway/event"

// timers finds the groups whose time has come. The time of a group may move on
// without its timer being told: that is noticed when the timer comes up, so
// that a row costs nothing here.
type timers struct {
	heap   []timer
	groups *groups
	// due returns when the time of a group really comes.
	due func(g int32) event.Time
}

type timer struct {
	at         event.Time
	group      int32
	generation uint32
}

func (t *timers) start(g int32) {
	t.heap = append(t.heap, timer{t.due(g), g, t.groups.at[g].generation})
	for i := len(t.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if t.heap[i].at >= t.heap[up].at {
			break
		}
		t.heap[i], t.heap[up] = t.heap[up], t.heap[i]
		i = up
	}
}

// first returns the group whose time comes first, and when.
func (t *timers) first() (g int32, at event.Time, ok bool) {
	for len(t.heap) > 0 {
		top := &t.heap[0]
		gr := &t.groups.at[top.group]
		if gr.generation != top.generation || gr.rows == 0 {
			n := len(t.heap) - 1
			t.heap[0] = t.heap[n]
			t.heap = t.heap[:n]
			t.sink()
			continue
		}
		if at := t.due(top.group); at != top.at {
			top.at = at
			t.sink()
			continue
		}
		return top.group, top.at, true
	}
	return 0, 0, false
}

func (t *timers) sink() {
	for i, n := 0, len(t.heap); ; {
		next := i
		for _, down := range [2]int{2*i + 1, 2*i + 2} {
			if down < n && t.heap[down].at < t.heap[next].at {
				next = down
			}
		}
		if next == i {
			return
		}
		t.heap[i], t.heap[next] = t.heap[next], t.heap[i]
		i = next
	}
}
