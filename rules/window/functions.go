package window

// Functions are the aggregates. To add one, write its state, a cell, in a file
// of its own and a line here.
var Functions = []Function{
	{Name: "count", Doc: "The number of events.", Result: Number,
		read: func(_ column, _ int32, rd *reading) Value { return Num(float64(rd.rows)) }},
	define(Function{Name: "count_if", Doc: "The number of events for which the condition is true.",
		Input: Truths, Result: Number}, (*tally).count),
	define(numeric("sum", "The sum, compensated for rounding."), (*sums).sum),
	define(numeric("avg", "The arithmetic mean."), (*sums).avg),
	define(numeric("min", "The least value."), (*extremes).least),
	define(numeric("max", "The greatest value."), (*extremes).greatest),
	define(numeric("stddev", "The standard deviation of a sample (n−1); 0 for one event."), (*moments).stddev),
	define(numeric("variance", "The variance of a sample (n−1); 0 for one event."), (*moments).variance),
	define(numeric("median", "The 50th percentile, within 1 %."), percentile(50)),
	define(numeric("p50", "The 50th percentile, within 1 %."), percentile(50)),
	define(numeric("p90", "The 90th percentile, within 1 %."), percentile(90)),
	define(numeric("p95", "The 95th percentile, within 1 %."), percentile(95)),
	define(numeric("p99", "The 99th percentile, within 1 %."), percentile(99)),
	define(Function{Name: "percentile", Doc: "The value at the nearest rank of p percent, within 1 %.",
		Input: Numbers, Result: Number, reads: true,
		Params: []Param{{Name: "p", Min: 0, Max: 100}}}, (*distribution).percentile),
	define(Function{Name: "first", Doc: "The value of the oldest event.", Input: Anything}, (*oldest).read),
	define(Function{Name: "last", Doc: "The value of the newest event.", Input: Anything}, (*newest).read),
	define(Function{Name: "distinct", Doc: "The number of different values without null: exact to 256, then with a standard error of 2.3 %.",
		Input: Anything, Result: Number}, (*distinct).count),
	define(numeric("increase", "How much a counter has risen since the key's event before the window; a fall is a restart from 0."), (*counter).increase),
	define(numeric("rate", "The increase per second, over the time between the events that it is from."), (*counter).rate),
	define(numeric("time_avg", "The mean weighted by time: a value holds until the next one, or until the window ends."), (*weighted).avg),
	define(Function{Name: "histogram", Doc: "How many values are less than each bound and not less than the one before; the last count is the rest.",
		Input: Numbers, Result: Record,
		Params: []Param{{Name: "bound", Min: -maxNumber, Max: maxNumber, Many: true}}}, (*histogram).record),
	define(Function{Name: "collect", Doc: "The values in order of time; of more than n the newest.",
		Input: Anything, Result: List,
		Params: []Param{{Name: "n", Min: 1, Max: 1000, Whole: true, Optional: true, Default: 100}}}, (*collection).list),
	define(Function{Name: "topk", Doc: "The k most frequent values and their counts: exact to 64 or 8k different values, then at most n/64 or n/8k too many.",
		Input: Anything, Result: List,
		Params: []Param{{Name: "k", Min: 1, Max: 100, Whole: true}}}, (*top).list),
}

// numeric is a function from numbers to a number.
func numeric(name, doc string) Function {
	return Function{Name: name, Doc: doc, Input: Numbers, Result: Number}
}
