package window

import (
	"math"

	"holdfast/gateway/event"
)

// tally counts what is true.
type tally struct{ n uint64 }

func (c *tally) add(_ *operand, v *Value, _ event.Time) {
	if v.Num != 0 {
		c.n++
	}
}
func (c *tally) merge(_ *operand, later *tally)  { c.n += later.n }
func (c *tally) clear()                          { c.n = 0 }
func (c *tally) appendState(b []byte) []byte     { return appendUint(b, c.n) }
func (c *tally) readState(_ *operand, r *reader) { c.n = r.uint() }
func (c *tally) count(*reading) Value            { return Num(float64(c.n)) }

// sums is a sum and its compensation (Neumaier, 1974), so that the error does
// not grow with the number of rows.
type sums struct{ total, rest float64 }

func (c *sums) plus(f float64) {
	total := c.total + f
	if math.Abs(c.total) >= math.Abs(f) {
		c.rest += (c.total - total) + f
	} else {
		c.rest += (f - total) + c.total
	}
	c.total = total
}

func (c *sums) add(_ *operand, v *Value, _ event.Time) { c.plus(v.Num) }
func (c *sums) merge(_ *operand, later *sums) {
	c.plus(later.total)
	c.rest += later.rest
}
func (c *sums) clear()                          { *c = sums{} }
func (c *sums) appendState(b []byte) []byte     { return appendFloat(appendFloat(b, c.total), c.rest) }
func (c *sums) readState(_ *operand, r *reader) { c.total, c.rest = r.float(), r.float() }
func (c *sums) sum(*reading) Value              { return Num(c.total + c.rest) }
func (c *sums) avg(rd *reading) Value           { return Num((c.total + c.rest) / float64(rd.rows)) }

// extremes are the least and the greatest number.
type extremes struct {
	min, max float64
	any      bool
}

func (c *extremes) add(_ *operand, v *Value, _ event.Time) {
	switch {
	case !c.any:
		c.min, c.max, c.any = v.Num, v.Num, true
	case v.Num < c.min:
		c.min = v.Num
	case v.Num > c.max:
		c.max = v.Num
	}
}

func (c *extremes) merge(_ *operand, later *extremes) {
	switch {
	case !later.any:
	case !c.any:
		*c = *later
	default:
		c.min, c.max = min(c.min, later.min), max(c.max, later.max)
	}
}

func (c *extremes) clear() { *c = extremes{} }
func (c *extremes) appendState(b []byte) []byte {
	return appendFloat(appendFloat(appendBool(b, c.any), c.min), c.max)
}
func (c *extremes) readState(_ *operand, r *reader) {
	c.any, c.min, c.max = r.bool(), r.float(), r.float()
}
func (c *extremes) least(*reading) Value    { return Num(c.min) }
func (c *extremes) greatest(*reading) Value { return Num(c.max) }

// moments are the mean and the sum of squared distances from it (Welford,
// 1962; merged as by Chan, Golub and LeVeque, 1979).
type moments struct{ n, mean, squares float64 }

func (c *moments) add(_ *operand, v *Value, _ event.Time) {
	c.n++
	d := v.Num - c.mean
	c.mean += d / c.n
	c.squares += d * (v.Num - c.mean)
}

func (c *moments) merge(_ *operand, later *moments) {
	if c.n == 0 {
		*c = *later
		return
	}
	n := c.n + later.n
	if later.n == 0 {
		return
	}
	d := later.mean - c.mean
	c.mean += d * (later.n / n)
	c.squares += later.squares + d*d*(c.n*later.n/n)
	c.n = n
}

func (c *moments) clear() { *c = moments{} }
func (c *moments) appendState(b []byte) []byte {
	return appendFloat(appendFloat(appendFloat(b, c.n), c.mean), c.squares)
}
func (c *moments) readState(_ *operand, r *reader) {
	c.n, c.mean, c.squares = r.float(), r.float(), r.float()
}
func (c *moments) stddev(rd *reading) Value { return Num(math.Sqrt(c.variance(rd).Num)) }

func (c *moments) variance(*reading) Value {
	if c.n < 2 {
		return Num(0)
	}
	return Num(c.squares / (c.n - 1))
}

// histogram counts numbers between bounds.
type histogram struct{ counts []uint64 }

func (c *histogram) size(o *operand) {
	for len(c.counts) <= len(o.params) {
		c.counts = append(c.counts, 0)
	}
}

func (c *histogram) add(o *operand, v *Value, _ event.Time) {
	c.size(o)
	i := 0
	for i < len(o.params) && v.Num >= o.params[i] {
		i++
	}
	c.counts[i]++
}

func (c *histogram) merge(o *operand, later *histogram) {
	c.size(o)
	for i, n := range later.counts {
		c.counts[i] += n
	}
}

func (c *histogram) clear() { clear(c.counts) }

func (c *histogram) appendState(b []byte) []byte {
	b = appendUint(b, uint64(len(c.counts)))
	for _, n := range c.counts {
		b = appendUint(b, n)
	}
	return b
}

func (c *histogram) readState(o *operand, r *reader) {
	if n := r.count(1); n > 0 && r.err == nil {
		c.size(o)
		if n != len(c.counts) {
			r.fail(errDamaged)
		}
		for i := range c.counts {
			c.counts[i] = r.uint()
		}
	}
}

var histogramNames = []string{"bounds", "counts"}

func (c *histogram) record(rd *reading) Value {
	var bounds, counts []Value
	for _, f := range rd.params {
		bounds = append(bounds, Num(f))
	}
	for i := range len(rd.params) + 1 {
		n := uint64(0)
		if i < len(c.counts) {
			n = c.counts[i]
		}
		counts = append(counts, Num(float64(n)))
	}
	return recordOf(histogramNames, listOf(bounds), listOf(counts))
}
