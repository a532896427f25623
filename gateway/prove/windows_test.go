//go:build prove

package prove

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// paneSize is the length of the windows in windowRule.
const paneSize = time.Second

// windowRule aggregates the readings of publishers by device. The grace keeps
// a tick from closing a pane before the events on their way have come in.
const windowRule = `
  - name: panes
    from: plant/#
    key: device
    window: {tumbling: 1s, grace: 500ms}
    aggregate: {n: count(), sum: sum(temperature), low: min(temperature), high: max(temperature)}
    emit: {stream: panes, topic: "panes/{key}"}
`

type paneID struct {
	device string
	start  int64 // in units of paneSize since 1970
}

type pane struct {
	N              int
	Sum, Low, High float64
}

// computePanes is the uninterrupted computation: the panes of the arrived
// events in the order of the log. An event counts at its receive time, or at
// the newest one before it if a clock was read out of turn.
func computePanes(arrivals []arrival) map[paneID]pane {
	log := slices.Clone(arrivals)
	slices.SortStableFunc(log, func(a, b arrival) int { return int(int64(a.offset) - int64(b.offset)) })
	log = slices.CompactFunc(log, func(a, b arrival) bool { return a.offset == b.offset })
	panes := map[paneID]pane{}
	newest := int64(0)
	for _, a := range log {
		newest = max(newest, a.received.UnixNano())
		id := paneID{fmt.Sprintf("d%d", a.P), newest / int64(paneSize)}
		p, ok := panes[id]
		if !ok {
			p = pane{Low: math.Inf(1), High: math.Inf(-1)}
		}
		p.N++
		p.Sum += a.Temperature
		p.Low, p.High = min(p.Low, a.Temperature), max(p.High, a.Temperature)
		panes[id] = p
	}
	return panes
}

// checkPanes compares the panes that were delivered with those computed from
// the delivered events, and returns how many agree.
func checkPanes(t testing.TB, arrivals []arrival, others []item) int {
	t.Helper()
	want := computePanes(arrivals)
	got := map[paneID]pane{}
	ids := map[string]paneID{}
	faults := 0
	fault := func(format string, args ...any) {
		if faults++; faults <= 5 {
			t.Errorf(format, args...)
		}
	}
	for _, i := range others {
		if i.Stream != "panes" {
			continue
		}
		var p pane
		if err := json.Unmarshal(i.Data, &p); err != nil {
			t.Fatalf("pane %s: %v: %s", i.ID, err, i.Data)
		}
		// A pane happened at its end, which belongs to the next one.
		id := paneID{i.Key, i.Time.UnixNano()/int64(paneSize) - 1}
		if was, ok := ids[i.ID]; ok && was != id {
			fault("the identity %s stands for panes %v and %v", i.ID, was, id)
		}
		if _, twice := got[id]; twice && ids[i.ID] != id {
			fault("pane %v was emitted twice, the second time as %s", id, i.ID)
		}
		ids[i.ID], got[id] = id, p
	}
	equal := 0
	for id, w := range want {
		g, ok := got[id]
		switch {
		case !ok:
			fault("pane %v is missing; want %+v", id, w)
		case g.N != w.N || g.Low != w.Low || g.High != w.High || math.Abs(g.Sum-w.Sum) > 1e-6:
			fault("pane %v is %+v, an uninterrupted run gives %+v", id, g, w)
		default:
			equal++
		}
	}
	for id, g := range got {
		if _, ok := want[id]; !ok {
			fault("pane %v with %+v has no events", id, g)
		}
	}
	if faults > 5 {
		t.Errorf("and %d more panes are wrong", faults-5)
	}
	return equal
}
