package sim

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Limits of a scenario, far beyond what one machine can simulate.
const (
	maxBoards = 100_000
	maxTime   = 10 * 365 * 24 * time.Hour
	minEvery  = time.Millisecond
)

var level = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

const levelRule = "1 to 64 letters, digits, hyphens, underscores or dots"

// mistakes collects what is wrong in the block of one node.
type mistakes struct{ found Mistakes }

// at reports a mistake at a key of n, or at n itself.
func (m *mistakes) at(n *yaml.Node, key, format string, args ...any) {
	if v := child(n, key); v != nil {
		n = v
	}
	line := 1
	if n != nil {
		line = max(n.Line, 1)
	}
	text := fmt.Sprintf(format, args...)
	if key != "" {
		text = key + ": " + text
	}
	m.found = append(m.found, Mistake{Line: line, Text: text})
}

func (m *mistakes) level(n *yaml.Node, key, value string) {
	if !level.MatchString(value) {
		m.at(n, key, "%q: give %s, because it is a level of topics", value, levelRule)
	}
}

// time reports a duration that is not from least to maxTime.
func (m *mistakes) time(n *yaml.Node, key string, d, least time.Duration) bool {
	if d >= least && d <= maxTime {
		return true
	}
	m.at(n, key, "%v: give from %v to %v", d, least, maxTime)
	return false
}

// number reports a number that is not from low to high.
func (m *mistakes) number(n *yaml.Node, key string, v, low, high float64) {
	if !(low <= v && v <= high) { // NaN too
		m.at(n, key, "%v: give a number from %v to %v", v, low, high)
	}
}

func (m *mistakes) window(n *yaml.Node, key string, w *Window) {
	if w == nil {
		return
	}
	n = child(n, key)
	if m.time(n, "every", w.Every, minEvery) && m.time(n, "for", w.For, minEvery) && w.For >= w.Every {
		m.at(n, "for", "%v: must be shorter than every, %v", w.For, w.Every)
	}
}

func (m *mistakes) schedule(n *yaml.Node, s *Schedule) {
	m.time(n, "at", s.At, 0)
	if m.time(n, "for", s.For, minEvery) && m.time(n, "every", s.Every, 0) && s.Every > 0 && s.For >= s.Every {
		m.at(n, "for", "%v: must be shorter than every, %v", s.For, s.Every)
	}
}

func (s *Scenario) check() Mistakes {
	var m mistakes
	m.level(s.node, "site", s.Site)
	if len(s.Boards) == 0 {
		m.at(s.node, "boards", "give at least one board")
	}
	total := 0
	names := map[string]bool{}
	for i := range s.Boards {
		b := &s.Boards[i]
		b.check(&m)
		if total += max(b.Count, 0); total > maxBoards {
			m.at(b.node, "count", "more than %d boards in all", maxBoards)
			break
		}
		for _, name := range b.names() {
			if names[name] {
				m.at(b.node, "name", "%q: a board of this name is there already", name)
				break
			}
			names[name] = true
		}
	}
	for i := range s.Crowds {
		s.Crowds[i].check(&m, s)
	}
	return m.found
}

func (b *Board) check(m *mistakes) {
	if b.Count < 1 || b.Count > maxBoards {
		m.at(b.node, "count", "%d: give 1 to %d", b.Count, maxBoards)
		b.Count = 1 // for the checks to come
	}
	m.level(b.node, "name", b.names()[b.Count-1]) // the longest
	m.level(b.node, "area", b.Area)
	m.number(b.node, "buffer", float64(b.Buffer), 1, 1e6)
	m.number(b.node, "duplicates", b.Duplicates, 0, 1)
	m.window(b.node, "reconnects", b.Reconnects)
	if b.Present != nil {
		m.schedule(child(b.node, "present"), b.Present)
	}
	clock := child(b.node, "clock")
	m.time(clock, "skew", max(b.Clock.Skew, -b.Clock.Skew), 0)
	m.number(clock, "ppm", b.Clock.PPM, -1e5, 1e5)
	m.time(clock, "unset", b.Clock.Unset, 0)
	if len(b.Sensors) == 0 {
		m.at(b.node, "sensors", "give the board at least one sensor")
	}
	metrics := map[string]bool{statusMetric: true}
	for i := range b.Sensors {
		s := &b.Sensors[i]
		s.check(m)
		switch {
		case s.Metric == statusMetric:
			m.at(s.node, "metric", "%q is the topic of the board itself; choose another", s.Metric)
		case metrics[s.Metric]:
			m.at(s.node, "metric", "%q: the board has this metric already; give the sensor another", s.Metric)
		}
		metrics[s.Metric] = true
	}
}

func (c *Crowd) check(m *mistakes, s *Scenario) {
	m.schedule(c.node, &c.Schedule)
	m.number(c.node, "rate", c.Rate, 1, 1e6)
	for _, area := range c.Areas {
		if !slices.ContainsFunc(s.Boards, func(b Board) bool { return b.Area == area }) {
			m.at(c.node, "areas", "%q: no board is in this area", area)
		}
	}
	for i := range s.Boards {
		for j := range s.Boards[i].Sensors {
			if sensor := &s.Boards[i].Sensors[j]; c.in(s.Boards[i].Area) && c.Rate >= 1 && sensor.dense(c.Rate) < minEvery {
				m.at(c.node, "rate", "%v: the sensor in line %d would send more than once in %v", c.Rate, sensor.node.Line, minEvery)
				return
			}
		}
	}
}

// in says whether the crowd concerns the boards of an area.
func (c *Crowd) in(area string) bool { return len(c.Areas) == 0 || slices.Contains(c.Areas, area) }

func (s *Sensor) check(m *mistakes) {
	if s.kind.Name == "" {
		var known []string
		for _, k := range Kinds() {
			known = append(known, k.Name)
		}
		m.at(s.node, "kind", "%q: there are %s", s.Kind, strings.Join(known, ", "))
		return
	}
	for i := 0; i+1 < len(s.node.Content); i += 2 {
		key := s.node.Content[i].Value
		if !slices.Contains([]string{"kind", "metric", "every"}, key) && !slices.Contains(s.kind.Settings, key) {
			m.at(s.node, key, "a %s has no such setting; it has %s", s.kind.Name, strings.Join(s.kind.Settings, ", "))
		}
	}
	if known := s.kind.Chips; s.Chip != "" && !slices.Contains(known, s.Chip) {
		m.at(s.node, "chip", "%q: for a %s there are %s", s.Chip, s.kind.Name, strings.Join(known, ", "))
	}
	s.checkFault(m)
	m.level(s.node, "metric", s.Metric)
	every := m.time(s.node, "every", s.Every, minEvery)
	m.number(s.node, "base", s.Base, -1e9, 1e9)
	m.number(s.node, "drift", s.Drift, -1e9, 1e9)
	m.number(s.node, "low", s.Low, -1e9, 1e9)
	m.number(s.node, "high", s.High, -1e9, 1e9)
	m.number(s.node, "noise", s.Noise, 0, 1e9)
	m.window(s.node, "stuck", s.Stuck)
	m.time(s.node, "resets", s.Resets, 0)
	if s.kind.binary {
		m.number(s.node, "cycle", s.Cycle, 0, 1)
		m.window(s.node, "active", s.Active)
		if s.Active == nil {
			m.at(s.node, "active", "say how often and for how long")
		}
	} else {
		m.number(s.node, "cycle", s.Cycle, -1e9, 1e9)
	}
	if slices.Contains(s.kind.Settings, "low") && !(s.Low < s.High) {
		m.at(s.node, "low", "%v: must be below high, %v", s.Low, s.High)
	}
	if slices.Contains(s.kind.Settings, "refill") {
		m.time(s.node, "refill", s.Refill, time.Second)
	}
	if s.kind.Name == "power_meter" && !(s.Base >= math.Abs(s.Cycle)+s.Noise) {
		m.at(s.node, "base", "%v: the load must be at least cycle and noise together, %v, or the counter would fall", s.Base, math.Abs(s.Cycle)+s.Noise)
	}
	if s.Spikes != nil && every {
		n := child(s.node, "spikes")
		m.number(n, "size", s.Spikes.Size, -1e9, 1e9)
		if m.time(n, "every", s.Spikes.Every, minEvery) && s.Spikes.Every < s.Every {
			m.at(n, "every", "%v: must not be shorter than every of the sensor, %v", s.Spikes.Every, s.Every)
		}
	}
	if s.Resets > 0 && s.Resets < s.Every {
		m.at(s.node, "resets", "%v: must not be shorter than every, %v", s.Resets, s.Every)
	}
}

func (s *Sensor) checkFault(m *mistakes) {
	if s.Fault == nil {
		return
	}
	if s.Chip == "" {
		m.at(s.node, "fault", "is one of a chip: say which it is with chip, one of %s", strings.Join(s.kind.Chips, ", "))
	}
	m.window(s.node, "fault", &s.Fault.Window)
	if faultNamed(s.Fault.Is) == nil {
		var known []string
		for _, f := range Faults() {
			known = append(known, f.Name)
		}
		m.at(child(s.node, "fault"), "is", "%q: there are %s", s.Fault.Is, strings.Join(known, ", "))
	}
}

// names returns the names of all boards of this making.
func (b *Board) names() []string {
	name := b.Name
	if b.Count > 1 && !strings.Contains(name, "{n}") {
		name += "-{n}"
	}
	names := make([]string, b.Count)
	for i := range names {
		names[i] = strings.ReplaceAll(name, "{n}", fmt.Sprint(i+1))
	}
	return names
}
