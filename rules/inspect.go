package rules

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"holdfast/gateway/event"
)

// State is what a rule remembers, for people.
type State struct {
	Rule     string        `json:"rule"`
	Disabled bool          `json:"disabled"`
	Reason   string        `json:"reason,omitempty"` // why it is disabled
	Cost     time.Duration `json:"cost_ns,omitempty"`
	Keys     int           `json:"keys"` // with a memory, or with an open window
	Window   *WindowState  `json:"window,omitempty"`
	Next     *time.Time    `json:"next,omitempty"`        // when its timer triggers
	Memory   []KeyState    `json:"memory"`                // of some keys, the last seen first
	Latest   []LatestState `json:"latest,omitempty"`      // what latest() knows of some topics
	Full     bool          `json:"latest_full,omitempty"` // there were more topics than latest() keeps
}

// KeyState is what a rule remembers of a key.
type KeyState struct {
	Key   string         `json:"key"`
	Calls map[string]any `json:"calls,omitempty"` // by the call of the function
	// What `for` waits for: since when the condition holds, and whether the
	// rule has emitted.
	Since   *time.Time `json:"since,omitempty"`
	Emitted bool       `json:"emitted,omitempty"`
}

// WindowState is what the window of a rule holds.
type WindowState struct {
	Watermark *time.Time  `json:"watermark,omitempty"` // none before the first event
	Closes    *time.Time  `json:"closes,omitempty"`    // when time closes the next one, without an event
	Open      []OpenState `json:"open"`                // some of the open ones, by end and key
}

// OpenState is an open window of a key, with the results so far.
type OpenState struct {
	Key     string         `json:"key,omitempty"`
	Start   time.Time      `json:"start"`
	End     time.Time      `json:"end"`
	Results map[string]any `json:"results"`
}

// LatestState is what latest() knows of a topic.
type LatestState struct {
	Topic string `json:"topic"`
	Value any    `json:"value"`
}

// Inspect returns what a rule remembers: of one key, or with an empty key of
// the most keys seen last.
func (e *Engine) Inspect(rule, key string, most int) (State, error) {
	r := e.rule(rule)
	if r == nil {
		return State{}, fmt.Errorf("there is no rule %q", rule)
	}
	s := State{Rule: r.Name, Disabled: r.off, Reason: r.reason, Cost: time.Duration(r.cost.mean), Memory: []KeyState{}}
	if r.timer != nil && r.timer.armed {
		next := r.timer.due().Std()
		s.Next = &next
	}
	if m := r.memory; m != nil {
		s.Keys = len(m.keys)
		for k := m.newest; k != nil && len(s.Memory) < most; k = k.older {
			if key == "" || k.name == key {
				s.Memory = append(s.Memory, m.describe(k))
			}
		}
	}
	if r.win != nil {
		w, err := r.inspectWindow(key, most)
		if err != nil {
			return State{}, fmt.Errorf("look into the window of %q: %w", rule, err)
		}
		s.Window, s.Keys = w, max(s.Keys, r.win.window.Keys())
	}
	for _, l := range r.latest {
		s.Full = s.Full || l.full
		for _, topic := range slices.Sorted(maps.Keys(l.values)) {
			if len(s.Latest) < most {
				s.Latest = append(s.Latest, LatestState{topic, l.values[topic].Any()})
			}
		}
	}
	return s, nil
}

// inspectWindow closes what is open in a copy of the window.
func (r *rule) inspectWindow(key string, most int) (*WindowState, error) {
	s := &WindowState{Open: []OpenState{}}
	if mark, any := r.win.window.Watermark(); any {
		t := mark.Std()
		s.Watermark = &t
	}
	if due := r.windowDue(); due != never {
		t := due.Std()
		s.Closes = &t
	}
	twin, err := r.win.empty()
	if err == nil {
		err = twin.RestoreState(r.win.window.AppendState(nil))
	}
	if err != nil {
		return nil, err
	}
	for _, p := range twin.Flush(nil) {
		if key != "" && p.Key != key || len(s.Open) >= most {
			continue
		}
		open := OpenState{Key: p.Key, Start: p.Start.Std(), End: p.End.Std(), Results: map[string]any{}}
		for i, v := range p.Values {
			value := v.Any()
			if n, ok := value.(float64); ok && (math.IsNaN(n) || math.IsInf(n, 0)) {
				value = nil
			}
			open.Results[r.spec.columns[i].name] = value
		}
		s.Open = append(s.Open, open)
	}
	return s, nil
}

func (m *memory) describe(k *keyed) KeyState {
	s := KeyState{Key: k.name, Calls: map[string]any{}}
	for i, site := range m.sites {
		_, call, _ := strings.Cut(site.id, ":")
		s.Calls[call] = k.cells[i].describe(site.fn.name)
	}
	if h := k.hold; h != nil {
		since := h.since.Std()
		s.Since, s.Emitted = &since, h.fired
	}
	return s
}

// describe is what the cell of a function keeps.
func (c *cell) describe(function string) any {
	since := func(t event.Time) string { return t.Std().Format(time.RFC3339Nano) }
	switch function {
	case "prev", "changed":
		return c.value.Any()
	case "change", "counter", "total":
		return c.number
	case "debounce":
		return map[string]any{"value": c.value.Any(), "waiting": c.waiting.Any(), "since": since(c.at)}
	case "throttle":
		if !c.set {
			return nil
		}
		return since(c.at)
	case "duplicate":
		if c.recent == nil {
			return 0
		}
		return len(c.recent.order)
	}
	return c.flag
}
