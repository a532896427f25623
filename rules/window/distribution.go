package window

import (
	"math"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"

	"holdfast/gateway/event"
)

const (
	accuracy = 0.01
	// maxBins bounds a sketch to 16 KiB for each sign, and its accuracy to 17
	// decades, whatever a device may send.
	maxBins = 2048
	// maxIndex is beyond the bin of any float64, for telling damaged state.
	maxIndex = 1 << 17
)

// bins maps numbers to the bins of all sketches.
var bins = func() mapping.IndexMapping {
	m, err := mapping.NewLogarithmicMapping(accuracy)
	if err != nil {
		panic(err) // only for an accuracy outside of (0, 1)
	}
	return m
}()

// distribution keeps how the numbers of a group are spread, as a DDSketch
// (Masson, Rim and Lee, VLDB 2019): counts of bins that are 2 % wide. Unlike a
// t-digest it bounds the error of each value, and is the same whatever the
// order of the rows and of merging. No percentile lies outside of the extremes,
// so that those of equal numbers are exact.
type distribution struct {
	sketch *ddsketch.DDSketch
	extremes
}

func (c *distribution) make() {
	if c.sketch == nil {
		c.sketch = ddsketch.NewDDSketch(bins,
			store.NewCollapsingLowestDenseStore(maxBins), store.NewCollapsingLowestDenseStore(maxBins))
	}
}

// add counts a number, which groups.check has found to be in range.
func (c *distribution) add(o *operand, v *Value, t event.Time) {
	c.extremes.add(o, v, t)
	c.make()
	_ = c.sketch.Add(v.Num)
}

func (c *distribution) merge(o *operand, later *distribution) {
	c.extremes.merge(o, &later.extremes)
	if later.sketch != nil && !later.sketch.IsEmpty() {
		c.make()
		_ = c.sketch.MergeWith(later.sketch) // fails for another mapping only
	}
}

func (c *distribution) clear() {
	c.extremes.clear()
	if c.sketch != nil {
		c.sketch.Clear()
	}
}

// at returns the value at the nearest rank: of n sorted values the one
// with number ⌈p·n/100⌉. The library's own quantiles round ranks down for
// positive numbers and up for negative ones.
func (c *distribution) at(p float64) Value {
	if c.sketch == nil {
		return Value{}
	}
	below, above := c.sketch.GetNegativeValueStore(), c.sketch.GetPositiveValueStore()
	negative, zero := below.TotalCount(), c.sketch.GetZeroCount()
	n := negative + zero + above.TotalCount()
	rank := max(1, min(n, math.Ceil(p*n/100*(1-1e-15)))) - 1
	f := 0.0
	switch {
	case rank < negative:
		f = -c.sketch.Value(below.KeyAtRank(negative - 1 - rank))
	case rank >= negative+zero:
		f = c.sketch.Value(above.KeyAtRank(rank - negative - zero))
	}
	return Num(max(c.min, min(c.max, f)))
}

func (c *distribution) percentile(rd *reading) Value { return c.at(rd.params[0]) }

func percentile(p float64) func(*distribution, *reading) Value {
	return func(c *distribution, _ *reading) Value { return c.at(p) }
}

// appendState writes the zero count and, for each sign, the bins that hold
// something. The library's own decoder passes over errors in its input.
func (c *distribution) appendState(b []byte) []byte {
	c.make()
	b = c.extremes.appendState(b)
	b = appendUint(b, uint64(c.sketch.GetZeroCount()))
	for _, half := range []store.Store{c.sketch.GetPositiveValueStore(), c.sketch.GetNegativeValueStore()} {
		n, last := 0, 0
		half.ForEach(func(int, float64) bool { n++; return false })
		b = appendUint(b, uint64(n))
		half.ForEach(func(index int, count float64) bool {
			b = appendInt(b, int64(index-last))
			b = appendUint(b, uint64(count))
			last = index
			return false
		})
	}
	return b
}

func (c *distribution) readState(o *operand, r *reader) {
	c.extremes.readState(o, r)
	c.make()
	if zeros := r.uint(); zeros > 0 && r.err == nil {
		r.fail(c.sketch.AddWithCount(0, float64(zeros)))
	}
	for _, half := range []store.Store{c.sketch.GetPositiveValueStore(), c.sketch.GetNegativeValueStore()} {
		index := 0
		for n := r.count(2); n > 0 && r.err == nil; n-- {
			index += int(max(min(r.int(), 2*maxIndex), -2*maxIndex))
			count := r.uint()
			if index < -maxIndex || index > maxIndex || count == 0 {
				r.fail(errDamaged)
				break
			}
			if r.err == nil {
				half.AddWithCount(index, float64(count))
			}
		}
	}
	if r.err == nil && c.sketch.IsEmpty() {
		r.fail(errDamaged)
	}
}
