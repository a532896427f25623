package bench

import (
	"math/bits"
	"time"
)

// Latencies counts durations in buckets that are at most 1/128 wide, from
// 1 ns up. The zero value is empty.
type Latencies struct {
	buckets [128 * 40]uint64
	count   uint64
	max     time.Duration
}

// Add counts d n times.
func (l *Latencies) Add(d time.Duration, n int) {
	if n == 0 {
		return
	}
	d = max(d, 0)
	l.buckets[bucket(uint64(d))] += uint64(n)
	l.count += uint64(n)
	l.max = max(l.max, d)
}

// Quantile returns the duration below which the share q (0 to 1) of all
// durations lie; 0 when there are none.
func (l *Latencies) Quantile(q float64) time.Duration {
	if l.count == 0 {
		return 0
	}
	rank := min(uint64(q*float64(l.count)), l.count-1)
	for i, n := range l.buckets {
		if rank < n {
			return min(middle(i), l.max)
		}
		rank -= n
	}
	return l.max
}

// Max returns the longest duration, exactly.
func (l *Latencies) Max() time.Duration { return l.max }

// bucket keeps the highest eight bits of v: values below 256 have a bucket of
// their own, each further doubling has 128.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-8, 0)
	return min(shift*128+int(v>>shift), len(Latencies{}.buckets)-1)
}

// middle is the inverse of bucket, to the middle of the bucket.
func middle(i int) time.Duration {
	if i < 256 {
		return time.Duration(i)
	}
	shift := i/128 - 1
	low := uint64(i-shift*128) << shift
	return time.Duration(low + 1<<shift/2)
}
