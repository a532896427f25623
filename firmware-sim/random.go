package sim

import (
	"hash/fnv"
	"time"
)

// random answers "which number has chance drawn for the k-th case?" without
// any state, so that a value can be asked for at any time and in any order.
type random uint64

// randomOf returns the chance of one named thing under a seed.
func randomOf(seed uint64, names ...string) random {
	h := fnv.New64a()
	for _, n := range names {
		h.Write([]byte(n))
		h.Write([]byte{0}) // "ab","c" is not "a","bc"
	}
	return random(mix(h.Sum64() + mix(seed)))
}

// bits returns 64 random bits for case k.
func (r random) bits(k int64) uint64 { return mix(uint64(r) + mix(uint64(k))) }

// unit returns a number in [0, 1) for case k.
func (r random) unit(k int64) float64 { return float64(r.bits(k)>>11) / (1 << 53) }

// moment returns a time in [0, d) for case k.
func (r random) moment(k int64, d time.Duration) time.Duration {
	return time.Duration(r.unit(k) * float64(d))
}

// normal returns a number for case k whose mean is 0 and standard deviation 1.
// It is a sum of four uniform ones: never beyond 3.47, and without functions
// whose last digit differs between processors.
func (r random) normal(k int64) float64 {
	const sqrt3 = 1.7320508075688772
	sum := -2.0
	for i := range int64(4) {
		sum += random(r.bits(k)).unit(i)
	}
	return sum * sqrt3
}

// mix spreads a change of any bit over all bits (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
