package window

import (
	"time"

	"holdfast/gateway/event"
)

// sample is a number at a time.
type sample struct {
	value float64
	time  event.Time
}

func (s sample) appendState(b []byte) []byte {
	return appendInt(appendFloat(b, s.value), int64(s.time))
}

func readSample(r *reader) sample { return sample{r.float(), r.time()} }

// span is the first and the last sample of a group whose rows come in order of
// time. The first may be the one before the group's rows: it is carried.
type span struct {
	first, last sample
	any         bool
	carried     bool // there is nothing but the carried sample
}

// follow tells whether the samples of later follow those of s, and if not,
// whether later replaces them.
func (s *span) follow(o *operand, later *span) (follows, replaces bool) {
	switch {
	case !later.any:
		return false, false
	case !s.any || s.carried && o.expire > 0 && later.first.time-s.last.time >= o.expire:
		return false, true
	}
	return true, false
}

func (s *span) appendState(b []byte) []byte {
	b = appendBool(appendBool(b, s.any), s.carried)
	return s.last.appendState(s.first.appendState(b))
}

func readSpan(r *reader) span {
	s := span{any: r.bool(), carried: r.bool()}
	s.first, s.last = readSample(r), readSample(r)
	if s.first.time > s.last.time {
		r.fail(errDamaged)
	}
	return s
}

// counter adds up how a counter rises. A number less than the one before it
// tells that the counter began again at 0.
type counter struct {
	span
	risen float64
}

func (c *counter) rise(from, to float64) {
	if to < from {
		from = 0
	}
	c.risen += to - from
}

func (c *counter) add(o *operand, v *Value, t event.Time) {
	c.merge(o, &counter{span: span{first: sample{v.Num, t}, last: sample{v.Num, t}, any: true}})
}

func (c *counter) merge(o *operand, later *counter) {
	follows, replaces := c.follow(o, &later.span)
	if replaces {
		*c = *later
	}
	if follows {
		c.rise(c.last.value, later.first.value)
		c.risen += later.risen
		c.last, c.carried = later.last, false
	}
}

func (c *counter) carry(from *counter) {
	*c = counter{span: span{first: from.last, last: from.last, any: from.any, carried: true}}
}

func (c *counter) clear() { *c = counter{} }

func (c *counter) appendState(b []byte) []byte { return appendFloat(c.span.appendState(b), c.risen) }

func (c *counter) readState(_ *operand, r *reader) { c.span, c.risen = readSpan(r), r.float() }

func (c *counter) increase(*reading) Value { return Num(c.risen) }

func (c *counter) rate(*reading) Value {
	d := c.last.time - c.first.time
	if d <= 0 {
		return Num(0)
	}
	return Num(c.risen / time.Duration(d).Seconds())
}

// weighted is the integral of a value over time; each value holds until the
// next.
type weighted struct {
	span
	area float64 // value · seconds, from the first to the last sample
}

func seconds(from, to event.Time) float64 { return time.Duration(to - from).Seconds() }

func (c *weighted) add(o *operand, v *Value, t event.Time) {
	c.merge(o, &weighted{span: span{first: sample{v.Num, t}, last: sample{v.Num, t}, any: true}})
}

func (c *weighted) merge(o *operand, later *weighted) {
	follows, replaces := c.follow(o, &later.span)
	if replaces {
		*c = *later
	}
	if follows {
		c.area += c.last.value*seconds(c.last.time, later.first.time) + later.area
		c.last, c.carried = later.last, false
	}
}

func (c *weighted) carry(from *weighted) {
	*c = weighted{span: span{first: from.last, last: from.last, any: from.any, carried: true}}
}

func (c *weighted) clear() { *c = weighted{} }

func (c *weighted) appendState(b []byte) []byte { return appendFloat(c.span.appendState(b), c.area) }

func (c *weighted) readState(_ *operand, r *reader) { c.span, c.area = readSpan(r), r.float() }

// avg takes the value before the window for what lies before its first row.
func (c *weighted) avg(rd *reading) Value {
	from, to := max(c.first.time, rd.start), max(c.last.time, rd.end)
	if to <= from {
		return Num(c.last.value)
	}
	area := c.area - c.first.value*seconds(c.first.time, from) + c.last.value*seconds(c.last.time, to)
	return Num(area / seconds(from, to))
}
