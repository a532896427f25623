package window

import "holdfast/gateway/event"

// stamped is a value with the time that it is from.
type stamped struct {
	value Value
	time  event.Time
	any   bool
}

func (s *stamped) set(v *Value, t event.Time) {
	s.value.keep(v)
	s.time, s.any = t, true
}

func (s *stamped) appendState(b []byte) []byte {
	b = appendBool(b, s.any)
	b = appendInt(b, int64(s.time))
	return appendValue(b, s.value)
}

func (s *stamped) readState(_ *operand, r *reader) {
	s.any, s.time, s.value = r.bool(), r.time(), r.value()
}

// oldest is the value of the least time, at equal times the first to come.
type oldest struct{ stamped }

func (c *oldest) add(_ *operand, v *Value, t event.Time) {
	if !c.any || t < c.time {
		c.set(v, t)
	}
}

func (c *oldest) merge(_ *operand, later *oldest) {
	if later.any && (!c.any || later.time < c.time) {
		*c = *later
	}
}

func (c *oldest) clear()              { *c = oldest{} }
func (c *oldest) read(*reading) Value { return c.value }

// newest is the value of the greatest time, at equal times the last to come.
type newest struct{ stamped }

func (c *newest) add(_ *operand, v *Value, t event.Time) {
	if !c.any || t >= c.time {
		c.set(v, t)
	}
}

func (c *newest) merge(_ *operand, later *newest) {
	if later.any && (!c.any || later.time >= c.time) {
		*c = *later
	}
}

func (c *newest) clear()              { *c = newest{} }
func (c *newest) read(*reading) Value { return c.value }
