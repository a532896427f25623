package storage

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// stats count what the committer does, readable at any time.
type stats struct {
	commits atomic.Uint64
	direct  atomic.Uint64 // of these, by the source itself
	bytes   atomic.Uint64 // of events, before compression
	refused atomic.Uint64 // appends refused for want of disk space
	total   atomic.Int64  // of all commits, in nanoseconds
	// latency of commits: bucket i holds those of [2^(i-1), 2^i) µs, in
	// quarters of a power of two, see bucket.
	latency [32 * 4]atomic.Uint64
}

func (s *stats) commit(d time.Duration, bytes int64) {
	s.commits.Add(1)
	s.bytes.Add(uint64(bytes))
	s.total.Add(int64(d))
	s.latency[bucket(d)].Add(1)
}

func bucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 4))
	top := bits.Len64(us) - 1
	return min(top*4+int(us>>(top-2)&3), 127)
}

func bucketTop(i int) time.Duration {
	top, quarter := i/4, i%4
	return time.Duration(uint64(5+quarter)<<max(top-2, 0)) * time.Microsecond
}

// Stats is a snapshot of the committer's work since the log was opened.
type Stats struct {
	Commits uint64
	Direct  uint64        // of these, for one source that waited for nobody else
	Bytes   uint64        // of events, before compression
	Refused uint64        // appends that found the disk full
	Total   time.Duration // spent in commits
	P50     time.Duration // of one commit, sync included; within a quarter
	P99     time.Duration
	Free    int64 // bytes free on the store's file system
	Full    bool  // sources are refused because of it
	Waiting int   // bytes that wait for the committer
}

// Stats returns the committer's counters.
func (l *Log) Stats() Stats {
	s := Stats{
		Commits: l.stats.commits.Load(), Direct: l.stats.direct.Load(), Bytes: l.stats.bytes.Load(), Refused: l.stats.refused.Load(),
		Total: time.Duration(l.stats.total.Load()),
		Free:  l.space.free.Load(), Full: l.space.full.Load(),
	}
	l.queue.mu.Lock()
	s.Waiting = l.queue.bytes
	l.queue.mu.Unlock()
	var counts [len(l.stats.latency)]uint64
	var total uint64
	for i := range counts {
		counts[i] = l.stats.latency[i].Load()
		total += counts[i]
	}
	var sum uint64
	for i, n := range counts {
		sum += n
		if s.P50 == 0 && total > 0 && sum*2 >= total {
			s.P50 = bucketTop(i)
		}
		if s.P99 == 0 && total > 0 && sum*100 >= total*99 {
			s.P99 = bucketTop(i)
		}
	}
	return s
}
