package window

import (
	"strings"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

const (
	accuracy = 0.01
	// maxBins bounds a sketch to 16 KiB for each sign, and its accuracy to 17
	// decades, whatever a device may send.
	maxBins = 2048
	// maxIndex is beyond the bin of any float64, for telling damaged state.
	maxIndex = 1 << 17
)

// sketch keeps the distribution of the numbers of one group.
type sketch struct{ *ddsketch.DDSketch }

// newMapping returns the mapping of numbers to bins, which sketches share.
func newMapping() mapping.IndexMapping {
	m, err := mapping.NewLogarithmicMapping(accuracy)
	if err != nil {
		panic(err) // only for an accuracy outside of (0, 1)
	}
	return m
}

func newSketch(m mapping.IndexMapping) *sketch {
	return &sketch{ddsketch.NewDDSketch(m,
		store.NewCollapsingLowestDenseStore(maxBins), store.NewCollapsingLowestDenseStore(maxBins))}
}

// add counts f, which layout.check has found to be in the sketch's range.
func (s *sketch) add(f float64) { _ = s.Add(f) }

// percentile returns the value at the nearest rank: of n sorted values the one
// with number ⌈percent·n/100⌉. The library's own quantiles round ranks down
// for positive numbers and up for negative ones.
func (s *sketch) percentile(percent uint64) float64 {
	below, above := s.GetNegativeValueStore(), s.GetPositiveValueStore()
	negative, zero := below.TotalCount(), s.GetZeroCount()
	n := uint64(negative + zero + above.TotalCount())
	rank := float64(max(1, (n*percent+99)/100) - 1)
	switch {
	case rank < negative:
		return -s.Value(below.KeyAtRank(negative - 1 - rank))
	case rank < negative+zero:
		return 0
	}
	return s.Value(above.KeyAtRank(rank - negative - zero))
}

// appendState writes the zero count and, for each sign, the bins that hold
// something. The library's own decoder passes over errors in its input.
func (s *sketch) appendState(b []byte) []byte {
	b = appendUint(b, uint64(s.GetZeroCount()))
	for _, half := range []store.Store{s.GetPositiveValueStore(), s.GetNegativeValueStore()} {
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

func readSketch(r *reader, m mapping.IndexMapping) *sketch {
	s := newSketch(m)
	if zeros := r.uint(); zeros > 0 && r.err == nil {
		r.fail(s.AddWithCount(0, float64(zeros)))
	}
	for _, half := range []store.Store{s.GetPositiveValueStore(), s.GetNegativeValueStore()} {
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
	return s
}

// keep returns the value with memory of its own: a text may be a part of a
// payload, which must not stay in memory for as long as a window is open.
func (v *Value) keep() Value {
	if v.Kind != Text {
		return *v
	}
	return Str(strings.Clone(v.Text))
}
