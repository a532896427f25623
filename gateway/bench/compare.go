package bench

import (
	"context"
	"slices"
)

// Pair is one run against each of two brokers, one after the other.
type Pair struct {
	A, B  Result
	Ratio float64 // acknowledged per second, A to B
}

// Compare puts the load in turn on its own broker and on the one at against,
// so that whatever else the machine does falls on both alike. It calls each
// after every pair, if not nil, and stops at the first error.
func Compare(ctx context.Context, l Load, against string, pairs int, each func(Pair)) ([]Pair, error) {
	other := l
	other.Addr = against
	var all []Pair
	for range pairs {
		var p Pair
		var err error
		if p.A, err = Run(ctx, l); err != nil {
			return all, err
		}
		if p.B, err = Run(ctx, other); err != nil {
			return all, err
		}
		if err := ctx.Err(); err != nil {
			return all, err
		}
		if p.B.PerSecond > 0 {
			p.Ratio = p.A.PerSecond / p.B.PerSecond
		}
		all = append(all, p)
		if each != nil {
			each(p)
		}
	}
	return all, nil
}

// MedianRatio returns the middle one of the ratios, or the mean of the two
// middle ones.
func MedianRatio(pairs []Pair) float64 {
	if len(pairs) == 0 {
		return 0
	}
	r := make([]float64, len(pairs))
	for i, p := range pairs {
		r[i] = p.Ratio
	}
	slices.Sort(r)
	if n := len(r); n%2 == 0 {
		return (r[n/2-1] + r[n/2]) / 2
	}
	return r[len(r)/2]
}
