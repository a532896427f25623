// Package rulestest runs tests of rules that are written in YAML beside them.
// The rules run in the real engine, on a clock that moves only as a test says.
//
//	# hot_test.yaml: tests of hot.yaml
//	tests:
//	  - name: a hot boiler raises an alert
//	    given:
//	      - {topic: plant/boiler/temperature, data: 79}
//	      - {after: 10s, topic: plant/boiler/temperature, data: {value: 93.5, unit: C}}
//	    expect:
//	      - {stream: alerts, topic: alerts/hot, fields: {value: 93.5}}
//	  - name: a window closes by itself
//	    given:
//	      - {at: +3s, topic: plant/boiler/temperature, data: 20}
//	      - expect: nothing
//	      - advance: 1m
//	    expect:
//	      - {stream: minutes, data: {n: 1, mean: 20}}
//
// A file NAME_test.yaml tests the rules in NAME.yaml, those of the files that
// its key rules lists, or all of a configuration that its key config names. A
// test begins at start, 2026-01-01T00:00:00Z unless it or the file says
// otherwise, with rules that have seen nothing.
//
// given lists what happens, one after the other:
//
//   - an event: topic, and data (YAML that becomes JSON) or payload (the bytes
//     as text); stream (events), client, key, qos, retain, content_type, and
//     time, by its source. It is received at a time of day, such as
//     2026-01-01T06:00:00Z, or so long after the start of the test, such as
//     +10s, both by at; or so long after what happened before it, by after.
//   - advance: time passes without events.
//   - expect: what has come out up to here.
//
// expect lists all that has come out since the last expect, in order; or it
// is nothing. What it says of an event must be so: stream, topic, rule, key,
// at, qos, retain, fields (at least these, with exact: true these alone), data
// (the whole payload as YAML), payload (as text). An event on which a rule
// failed is {dead: RULE, error: part of the reason}. With only, a test looks
// at the streams it lists and at failures.
//
// Numbers are equal if they differ by less than a billionth.
package rulestest
