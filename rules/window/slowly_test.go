package window

import (
	"cmp"
	"math"
	"slices"
	"time"

	"holdfast/gateway/event"
)

// slowly works out an aggregate from the rows in order of time and the row
// before them.
func slowly(a Aggregate, rows []*refRow, before *refRow, start, until event.Time) Value {
	var numbers []float64
	var values []Value
	for _, r := range rows {
		if a.Func.Name != "count" {
			numbers = append(numbers, r.Values[a.Input].Num)
			values = append(values, r.Values[a.Input])
		}
	}
	n := float64(len(rows))
	sum := func(numbers []float64) (s float64) {
		for _, f := range numbers {
			s += f
		}
		return s
	}
	variance := func() float64 {
		var squares []float64
		for _, f := range numbers {
			squares = append(squares, (f-sum(numbers)/n)*(f-sum(numbers)/n))
		}
		if n < 2 {
			return 0
		}
		return sum(squares) / (n - 1)
	}
	rank := func(p float64) Value {
		sorted := slices.Sorted(slices.Values(numbers))
		return Num(sorted[max(1, int(math.Ceil(p*n/100-1e-9)))-1])
	}
	counts := map[Value]int{}
	for _, v := range values {
		counts[v]++
	}
	// all rows with the one before
	all := rows
	if before != nil {
		all = append([]*refRow{before}, rows...)
	}
	increase := func() (rise float64) {
		for i := 1; i < len(all); i++ {
			was, is := all[i-1].Values[a.Input].Num, all[i].Values[a.Input].Num
			if is < was {
				was = 0
			}
			rise += is - was
		}
		return rise
	}
	switch a.Func.Name {
	case "count":
		return Num(n)
	case "count_if", "sum":
		return Num(sum(numbers))
	case "avg":
		return Num(sum(numbers) / n)
	case "min":
		return Num(slices.Min(numbers))
	case "max":
		return Num(slices.Max(numbers))
	case "variance":
		return Num(variance())
	case "stddev":
		return Num(math.Sqrt(variance()))
	case "median", "p50":
		return rank(50)
	case "p90":
		return rank(90)
	case "p95":
		return rank(95)
	case "p99":
		return rank(99)
	case "percentile":
		return rank(a.Params[0])
	case "first":
		return values[0]
	case "last":
		return values[len(values)-1]
	case "distinct":
		delete(counts, Value{})
		return Num(float64(len(counts)))
	case "increase":
		return Num(increase())
	case "rate":
		d := time.Duration(all[len(all)-1].Time - all[0].Time).Seconds()
		if d == 0 {
			return Num(0)
		}
		return Num(increase() / d)
	case "time_avg":
		from := max(all[0].Time, start)
		until = max(until, all[len(all)-1].Time)
		if until == from {
			return Num(numbers[len(numbers)-1])
		}
		area := 0.0
		for i, r := range all {
			next := until
			if i+1 < len(all) {
				next = all[i+1].Time
			}
			area += r.Values[a.Input].Num * float64(next-max(r.Time, from))
		}
		return Num(area / float64(until-from))
	case "histogram":
		var bounds, counts []Value
		low := math.Inf(-1)
		for _, high := range append(slices.Clone(a.Params), math.Inf(1)) {
			in := 0.0
			for _, f := range numbers {
				if f >= low && f < high {
					in++
				}
			}
			counts = append(counts, Num(in))
			low = high
		}
		for _, f := range a.Params {
			bounds = append(bounds, Num(f))
		}
		return recordOf(histogramNames, listOf(bounds), listOf(counts))
	case "collect":
		return listOf(values[max(0, len(values)-int(a.Params[0])):])
	case "topk":
		var distinct []Value
		for v := range counts {
			distinct = append(distinct, v)
		}
		slices.SortFunc(distinct, func(x, y Value) int {
			return cmp.Or(cmp.Compare(counts[y], counts[x]), compareValues(x, y))
		})
		var top []Value
		for _, v := range distinct[:min(len(distinct), int(a.Params[0]))] {
			top = append(top, recordOf(topNames, v, Num(float64(counts[v]))))
		}
		return listOf(top)
	}
	panic("the reference does not know " + a.Func.Name)
}
