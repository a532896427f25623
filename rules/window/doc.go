// Package window groups rows of events into panes and aggregates them.
//
// A [Window] is a pure value: it has no clock and does no input or output.
// What it returns depends on nothing but the calls made to it, in their order,
// and its state can be written down and taken up again at any point between
// two calls without anybody being able to tell.
//
// # Panes and the watermark
//
// A pane is a half-open interval of time [start, end) of one key. The
// watermark is the time up to which events are assumed to have come in; a
// [Watermark] derives it from the events and from ticks. A pane closes as soon
// as the watermark reaches its end, and panes that close together are returned
// by end and then by key. A row that belongs to a closed pane is late: it is
// refused with [ErrLate], never put into another pane.
//
// # Aggregates
//
// The operations are those of [Op]. Sums and averages are compensated
// (Neumaier), so that the error does not grow with the number of rows.
// first and last go by event time, at equal times by arrival. Percentiles come
// from a DDSketch: the result differs by at most 1 % from the value at that
// rank (of n sorted values the one with number ⌈n·p/100⌉); the bound holds
// while the values of one sign in a pane span less than 17 decades, beyond that
// the smallest are lumped together. min, max, first, last and count are exact.
//
// # Limits
//
// A pane holds at most a given number of keys ([ErrKeys]). Numbers must be
// finite and at most 1e300 ([ErrNumber]), times between 1970 and 2223
// ([ErrTime]).
package window
