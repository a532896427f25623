// Package rules evaluates the rules of a gateway over streams of events.
//
// A rule selects events by topic and condition. Without a window it emits one
// event for each; with a window it aggregates them and emits one event for each
// key when the window closes. [Compile] reads rules from YAML, an [Engine] runs
// those whose events come from one stream.
//
//	name: minute
//	from: plant/{line}/temp            # a filter, a list of them, or {stream: …, topics: …}, {rule: …}, {every: 10s}, {cron: "0 6 * * *"}
//	where: temperature > -40           # optional condition
//	for: 30s                           # optional: how long where must hold for a key; emits once
//	key: line                          # optional: one window and memory for each, and the order of what is emitted
//	time: {field: ts, unit: ms}        # optional: event time from the payload (s, ms, us, ns, rfc3339)
//	set: {c: 'convert(temperature, "degF", "degC")'} # optional: values for all expressions, and for payloads that are passed on
//	drop: [debug]                      # optional, for payloads that are passed on; also rename: {old: new}
//	window: {tumbling: 10s, grace: 2s, idle: 5s}
//	aggregate:
//	  n: count()
//	  t: avg(c)
//	having: n > 3                      # optional condition on the aggregates
//	emit: {stream: minutes, topic: "agg/{key}"}          # one output or a list
//	publish: {topic: "panel/{key}", payload: t}          # to MQTT clients, through the stream local
//	immediate: true                                      # optional, for rules over single edges: acts ahead of the log
//
// configs/reference.yaml says what each key means.
//
// # Guarantees
//
// The package has no clock, opens nothing and starts nothing. Outputs,
// failures and state are a function of the events and of the inputs that had an
// effect ([Input]: ticks, rules that are enabled or disabled, versions of lookup
// tables), in their order: running them again, from the beginning or from a
// snapshot, gives the same bytes. Outputs come in the order of the event that
// caused them; for each event first what the time until then has brought about,
// then of the rules (those that read the stream as in the file, then those that
// read these), then of panes by end and key.
//
// An event on which a rule fails (a field is missing or of another type, there
// are too many keys) is a [Failure] of that rule with its place in the file,
// and counts in none of its aggregates; the other rules go on. Only fields that
// an expression really comes to read can fail it: && and || stop as soon as the
// result is known, and `field ?? default` and `field == nil` accept absent
// fields. null counts as absent. Late events are counted ([Stat]), and go to the
// stream that window.late names.
//
// # Rules that read rules
//
// {rule: name} reads what a rule emits, {stream: name} what a stream holds. A
// stream that holds nothing but what rules make of one other stream is read in
// memory, in the same step; one that other sources write to as well
// ([Options].Open) from the log. What comes around in a circle is a mistake at
// load, and so are more than 16 rules one behind the other: so no event can go
// on for ever. Two rules that get the same events must agree on the type of a
// field.
//
// # Ahead of the log
//
// An immediate rule is evaluated as soon as an edge of an input comes, by an engine
// of its own ([Set.Ahead]), and what it tells outputs of devices is done at once.
// Later it is evaluated like every rule, and what it emits is written. It has
// nothing that needs time to pass or other events (window, for, timers, latest),
// nothing that may differ later (received, lookup), and no memory that an edge
// could spoil for ever (counter, total).
//
// # Expressions
//
// Expressions are those of expr-lang. Names are fields of the payload (a.b for
// nested ones, a[0] for elements), levels of the topic that from names, values
// of set, or one of: topic, client, source, key (the ordering key of the
// event), time, received, payload (the raw text), qos, and level(n), the n-th
// level of the topic from 0, or from the end for n < 0. A payload that is a
// single number, text or truth value is `value`. Fields whose names are reserved
// or are no identifiers are field("time") and field("a b", "c"). Package codec
// says in which formats payloads can be; [Options].Codecs or the content type
// choose one.
//
// The types of fields follow from their use and are checked when the rules are
// loaded. Numbers of payloads are 64-bit floating point, exact for whole
// numbers up to 2^53; a field that is emitted as it is keeps all its digits.
// Functions whose result depends on anything but the event are not there: now,
// date, timezone, and keys, values and toPairs, whose order is random. List
// functions can stand inside each other to two levels.
//
//	convert(x, "degF", "degC")             a number in another unit
//	lookup("machines", id, "limit")        a value of a lookup table ([ParseTable])
//	latest("plant/{line}/ambient", "temp") the last value of a field of another topic
//	prev(x) change(x) changed(x)           the event before
//	rising(c) falling(c)                   a condition begins or ceases to hold
//	hysteresis(x, on, off)                 a condition with two limits
//	debounce(x, "2s")                      the last value that lasted
//	throttle(c, "10s")                     a condition, true at most so often
//	duplicate(x, "10m")                    x was there before
//	counter(c) total(x)                    events and sums so far
//
// The functions from prev on remember by key, or by topic where the rule has
// none. In where and set they see every event that from selects, in aggregates
// and outputs the events that where lets through, in having and outputs of
// windows panes: once each, whether or not the expression comes to ask for them.
// An event on which their arguments fail they do not see.
//
// # Windows
//
// Package window says which windows there are, when they close and how exact
// aggregates are. By default time is the receive time, and a pane closes at its
// end plus grace, by the next event or tick. With time: it is the event's own,
// and silence of idle (5s) makes the watermark move on without events. Only
// events that pass `where` move the watermark.
//
// # Durations
//
// for, debounce, throttle, duplicate and state.expire measure by the time in the
// payload where the rule has time:, else by the time at which events came in:
// monotonic within a boot of the machine, so that a wall clock that is set makes
// nothing last longer or shorter, and by the wall clock over a restart, so that
// time counts while the gateway was down. Timers go by the wall clock; times
// that were missed count once.
package rules
