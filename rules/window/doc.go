// Package window groups rows of events into panes and aggregates them.
//
// A [Window] is a pure value: it has no clock and does no input or output.
// What it returns depends on nothing but the calls made to it, in their order,
// and its state can be written down and taken up again at any point between
// two calls without anybody being able to tell.
//
// # Panes and the watermark
//
// An [Assigner] says which panes a row belongs to:
//
//	kind      pane of a key                                     a row is late when
//	Tumbling  [n·size, (n+1)·size) since 1970 UTC               its pane has closed
//	Hopping   [n·hop, n·hop + size) since 1970 UTC              the last of its panes has closed
//	Session   [first row, last row + gap)                       the pane it would begin has ended
//	Sliding   (row − size, row], one for each row               it is older than the watermark
//	Count     first row to n-th row, both in it                 it is older than the watermark
//	State     [condition holds, condition no longer holds)      it is older than the watermark
//
// The watermark is the time up to which events are assumed to have come in; a
// [Watermark] derives it from the events and from ticks, by event time or by
// receive time. A pane closes as soon as the watermark reaches its end, and
// panes that close together are returned by end and then by key. A late row is
// refused with [ErrLate] and left to the caller; it is never put into another
// pane.
//
// Sliding, count and state windows take rows in order of time, at equal times
// of arrival. So do all windows with an aggregate to which order matters: rate,
// increase, time_avg. Unless [Config].InOrder says that rows come like that
// anyway, a row then waits until the watermark reaches it, and rows older than
// the watermark are late even if their pane is still open: grace is how far out
// of order rows may be.
//
// # Aggregates
//
// The aggregates are those of [Functions]. Sums and averages are compensated
// (Neumaier), so that the error does not grow with the number of rows. count,
// count_if, min, max, first, last, histogram and collect are exact; first, last
// and collect go by event time, at equal times by arrival. stddev and variance
// are those of a sample. These are approximations:
//
//	percentiles  DDSketch: at most 1 % from the value at that rank (of n sorted
//	             values the one with number ⌈n·p/100⌉), while the values of one
//	             sign in a pane span less than 17 decades; beyond that those
//	             nearest to 0 are lumped together
//	distinct     exact to 256 different values, then HyperLogLog with a standard
//	             error of 2.3 %; null does not count
//	topk         Space-Saving with m = max(64, 8k) counters: exact to m different
//	             values, then a count is up to rows/m too high, and every value
//	             that makes up more than 1/m of the rows is considered
//
// rate, increase and time_avg of aligned windows know the last row of the key
// before the pane, unless it is older than Config.Expire: the increases of
// successive windows add up to that of the counter, and a value holds into the
// next window. In session, count, state and sliding windows they begin with the
// first row of the pane. A counter that falls has begun again at 0. What cannot
// be told yet is 0: the rate of one row without a predecessor, the spread of one
// row.
//
// # Cost
//
// A row costs the same in a hopping as in a tumbling window: hopping windows
// keep slices as long as the greatest common divisor of size and hop, and merge
// size/slice of them for each key when a pane closes ([MaxSlices]). A sliding
// window keeps its rows; a pane takes at most 64 rows one by one and a merge for
// each 64 more. A row allocates nothing once there is memory for its key, except
// for texts that are kept.
//
// # Limits
//
// At most Config.MaxKeys keys have an open pane or a waiting row at a time
// ([ErrKeys]), and at most Config.MaxRows rows are kept one by one ([ErrRows]).
// Count and state windows of a key that is silent for Config.Expire close
// unfinished (Pane.Expired), at their last row. Of keys without an open pane
// only the last row is kept where it matters, of at most twice MaxKeys keys.
// Numbers must be finite and at most 1e300 ([ErrNumber]), times between 1970 and
// 2223 ([ErrTime]).
//
// # State
//
// The state has a version and no checksum: whoever stores it sees to that. What
// is damaged and does not look like it restores to wrong numbers, never to a
// window that fails.
package window
