// Package rules evaluates the rules of a gateway over streams of events.
//
// A rule selects events by topic filter and condition. Without a window it
// emits one event for each; with a window it aggregates them and emits one
// event for each key when the window closes. [Compile] reads rules from YAML,
// an [Engine] runs those of one stream.
//
//	name: minute
//	from: plant/#                      # a filter, a list of them, or {stream: alerts, topics: [...]}
//	where: temperature > -40           # optional condition
//	key: device                        # optional: one window for each, and the ordering key of what is emitted
//	time: {field: ts, unit: ms}        # optional: event time from the payload (s, ms, us, ns, rfc3339)
//	window: {tumbling: 10s, grace: 2s, idle: 5s, max_keys: 10000}
//	aggregate:
//	  n: count()
//	  t: avg(temperature)
//	having: n > 3                      # optional condition on the aggregates
//	emit: {stream: minutes, topic: "agg/{key}"}
//
// # Guarantees
//
// The package has no clock, opens nothing and starts nothing. Outputs,
// failures and state are a function of the events and of the ticks that had an
// effect, in their order: running them again, from the beginning or from a
// snapshot, gives the same bytes. Outputs come in the order of the event that
// caused them, then of the rules in the file, then of panes by end and key.
//
// An event on which a rule fails (a field is missing or of another type, its
// window has too many keys) is a [Failure] of that rule and counts in none of
// its aggregates; the other rules go on. Only fields that an expression really
// comes to read can fail it: && and || stop as soon as the result is known,
// and `field ?? default` and `field == nil` accept absent fields. null counts
// as absent. Late events are counted ([Stat]).
//
// # Expressions
//
// Expressions are those of expr-lang. Names are fields of a JSON payload (a.b
// for nested ones, a[0] for elements), or one of: topic, client, source, key
// (the ordering key of the event), time, received, payload (the raw text), qos,
// and level(n), the n-th level of the topic from 0, or from the end for n < 0.
// A payload that is a single number, text or truth value is `value`. Fields
// whose names are reserved or are no identifiers are field("time") and
// field("a b", "c").
//
// The types of fields follow from their use and are checked when the rules are
// loaded. Numbers of payloads are 64-bit floating point, exact for whole
// numbers up to 2^53; a field that is emitted as it is keeps all its digits.
// Functions whose result depends on anything but the event are not there: now,
// date, timezone, and keys, values and toPairs, whose order is random.
//
// # Windows
//
// Panes are half-open, [start, end), aligned to 1970 UTC; package window says
// when they close and how exact aggregates are (percentiles: 1 %). By default
// time is the receive time, and a pane closes at its end plus grace, by the
// next event or tick. With time: it is the event's own, and silence of idle
// (5s) makes the watermark move on without events. Only events that pass
// `where` move the watermark.
package rules
