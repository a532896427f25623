package devices

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"time"

	"holdfast/gateway/config"
)

// shapeSettings say what becomes of the readings of a device before they are
// events. Those under readings are of single ones and come before the others.
type shapeSettings struct {
	Publish  config.Duration `config:"publish,max=24h"` // 0: every reading
	As       string          `config:"as,oneof=mean|min|max|median|last|sum"`
	Silence  config.Duration `config:"silence,max=7d"` // the longest time without an event
	Readings config.Named    `config:"readings"`
}

// readingSettings are those of one reading.
type readingSettings struct {
	Publish  config.Duration `config:"publish,max=24h"`
	As       string          `config:"as,oneof=mean|min|max|median|last|sum"`
	Silence  config.Duration `config:"silence,max=7d"`
	Deadband float64         `config:"deadband,min=0"` // no event for less change than that
	Offset   float64         `config:"offset"`
	Gain     float64         `config:"gain"`
	Table    [][]float64     `config:"table"` // pairs of what is read and what it means
	Unit     string          `config:"unit"`
	Low      *float64        `config:"low"`
	High     *float64        `config:"high"`
}

// shape is what becomes of one reading. The value is calibrated, flagged if it
// is beyond the limits, aggregated over every, and left out as long as it has
// changed by no more than the deadband, but not for longer than silence.
type shape struct {
	raw        Quantity // of the device; limits hold before calibration
	offset     float64
	gain       float64
	table      [][2]float64
	unit       string
	low, high  float64 // after calibration
	every      time.Duration
	as         string
	deadband   float64
	exceptions bool // deadband or silence is set
	silence    time.Duration
}

// plain is the shape of a reading about which nothing was said.
func plain(q Quantity) shape {
	return shape{raw: q, gain: 1, low: math.Inf(-1), high: math.Inf(1), as: "mean"}
}

// shapes reads the settings of a section for a device that measures quantities;
// nil if it does not say what it measures.
func shapes(s *config.Section, set shapeSettings, quantities []Quantity) (all map[string]shape, errs config.Errors) {
	all = map[string]shape{}
	var known []string
	for _, q := range quantities {
		known = append(known, q.Name)
		all[q.Name] = set.of(plain(q))
	}
	all[""] = set.of(plain(Quantity{}))
	for _, r := range set.Readings {
		sh, ok := all[r.Name()]
		if !ok && quantities != nil {
			hint := ""
			if near := config.Nearest(r.Name(), known); near != "" {
				hint = fmt.Sprintf(", did you mean %q?", near)
			}
			errs.Add(r.Errorf("", "%s has no reading %q%s", s.Name(), r.Name(), hint))
			continue
		} else if !ok {
			sh = all[""]
		}
		sh, err := sh.with(r)
		errs.Add(err)
		all[r.Name()] = sh
	}
	return all, errs
}

func (set shapeSettings) of(sh shape) shape {
	sh.every, sh.silence, sh.exceptions = set.Publish.Std(), set.Silence.Std(), set.Silence > 0
	if set.As != "" {
		sh.as = set.As
	}
	return sh
}

func (sh shape) with(r *config.Section) (shape, error) {
	set := readingSettings{
		Publish: config.Duration(sh.every), As: sh.as, Silence: config.Duration(sh.silence), Gain: 1,
	}
	if err := r.Decode(&set); err != nil {
		return sh, err
	}
	var errs config.Errors
	sh.every, sh.as, sh.silence = set.Publish.Std(), set.As, set.Silence.Std()
	sh.deadband, sh.exceptions = set.Deadband, r.Has("deadband") || sh.silence > 0
	sh.offset, sh.gain, sh.unit = set.Offset, set.Gain, set.Unit
	if set.Low != nil {
		sh.low = *set.Low
	}
	if set.High != nil {
		sh.high = *set.High
	}
	if sh.low >= sh.high {
		errs.Add(r.Errorf("low", "low must be less than high"))
	}
	if set.Table != nil && (r.Has("gain") || r.Has("offset")) {
		errs.Add(r.Errorf("table", "a reading is calibrated by a table, or by gain and offset, not by both"))
	}
	for i, pair := range set.Table {
		if len(pair) != 2 || i > 0 && len(set.Table[i-1]) == 2 && pair[0] <= set.Table[i-1][0] {
			errs.Add(r.Errorf(fmt.Sprintf("table.%d", i), "a table has pairs of what is read and what it means, by growing readings, as in [[0.5, 0], [4.5, 100]]"))
			return sh, errs.Err()
		}
		sh.table = append(sh.table, [2]float64{pair[0], pair[1]})
	}
	if len(sh.table) == 1 {
		errs.Add(r.Errorf("table", "a table needs two pairs at least"))
	}
	return sh, errs.Err()
}

// calibrate returns the reading as it is published, and whether it is within
// all limits.
func (sh *shape) calibrate(r Reading) (Reading, bool) {
	good := sh.raw.Low == sh.raw.High || r.Value >= sh.raw.Low && r.Value <= sh.raw.High
	if sh.table != nil {
		r.Value = tidy(interpolate(sh.table, r.Value))
	} else if sh.gain != 1 || sh.offset != 0 {
		r.Value = tidy(r.Value*sh.gain + sh.offset)
	}
	if sh.unit != "" {
		r.Unit = sh.unit
	}
	return r, good && r.Value >= sh.low && r.Value <= sh.high
}

// tidy rounds what was calculated to twelve digits, more than anything measures:
// 0.1 + 0.2 is 0.3.
func tidy(v float64) float64 {
	tidied, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 12, 64), 64)
	if err != nil {
		return v
	}
	return tidied
}

// interpolate follows the table in straight lines, the outer ones beyond its
// ends too.
func interpolate(table [][2]float64, x float64) float64 {
	i := sort.Search(len(table), func(i int) bool { return table[i][0] >= x })
	i = min(max(i, 1), len(table)-1)
	a, b := table[i-1], table[i]
	return a[1] + (x-a[0])*(b[1]-a[1])/(b[0]-a[0])
}

// sample is a reading that is to be published.
type sample struct {
	Reading
	at   time.Time
	n    int  // readings that are in it; 0 if it is no aggregate
	good bool // within its limits
}

// channel is one reading of a device on its way to become events. It has no
// clock of its own: readings bring their times.
type channel struct {
	shape
	began  time.Time // of the period under way; zero if there is none
	values []float64
	newest sample // within its limits, of the period
	bad    *sample

	published sample
	any       bool      // published is one
	last      time.Time // of what was published or left out last
}

// take takes a reading and returns what is to be published, if anything. A
// period ends with the first reading after it.
func (c *channel) take(at time.Time, r Reading) (s sample, ok bool) {
	calibrated, good := c.calibrate(r)
	s = sample{calibrated, at, 0, good}
	if c.every == 0 {
		return c.except(s)
	}
	if !good && (!c.any || c.published.good) {
		c.bad = nil
		return c.except(s) // not later: something has just gone wrong
	}
	var due sample
	if !c.began.IsZero() && at.Sub(c.began) >= c.every {
		due, ok = c.flush()
		c.began = c.began.Add(at.Sub(c.began) / c.every * c.every)
	} else if c.began.IsZero() {
		c.began = at
	}
	if good {
		c.values, c.newest = append(c.values, calibrated.Value), s
	} else {
		c.bad = &s
	}
	return due, ok
}

// flush ends the period and returns what is to be published of it. Readings
// beyond the limits do not count if there are others.
func (c *channel) flush() (s sample, ok bool) {
	switch {
	case len(c.values) > 0:
		s = c.newest
		s.Value, s.n = tidy(aggregate(c.as, c.values)), len(c.values)
	case c.bad != nil:
		s = *c.bad
	default:
		return s, false
	}
	c.values, c.bad = c.values[:0], nil
	return c.except(s)
}

// except leaves out what is as good as what was published, unless the next one,
// if it comes after as long as this one, would come after too long a silence. A
// tenth of that time is forgiven, for no two readings are equally far apart.
func (c *channel) except(s sample) (sample, bool) {
	silent, step := s.at.Sub(c.published.at), s.at.Sub(c.last)
	c.last = s.at
	if c.any && c.exceptions && s.good == c.published.good &&
		math.Abs(s.Value-c.published.Value) <= c.deadband &&
		(c.silence == 0 || silent < c.silence && silent+step-step/10 <= c.silence) {
		return s, false
	}
	c.published, c.any = s, true
	return s, true
}

// again forgets the period, and that anything was published.
func (c *channel) again() { c.began, c.values, c.bad, c.any = time.Time{}, c.values[:0], nil, false }

func aggregate(as string, values []float64) float64 {
	switch as {
	case "min":
		return slices.Min(values)
	case "max":
		return slices.Max(values)
	case "last":
		return values[len(values)-1]
	case "median":
		sorted := slices.Sorted(slices.Values(values))
		n := len(sorted)
		return (sorted[(n-1)/2] + sorted[n/2]) / 2
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	if as == "sum" {
		return sum
	}
	return sum / float64(len(values))
}
