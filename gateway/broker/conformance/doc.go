// Package conformance holds the broker to the specifications of MQTT 3.1.1 and
// 5, clause by clause. It has no code but its tests: dialogues over raw
// sockets, each with the clause that it shows, as [MQTT-3.8.3-1], or the section
// where the specification gives no number.
//
// The dialogues run against a gateway in a process of its own, all at once,
// while a well-behaved client works beside them. That client never waits a
// second, the anonymous memory of the process grows by at most 64 MiB, and the
// process survives all of it. A connection that MQTT 5 says should be closed
// with a reason, and is closed without one, counts as a failure.
//
// Where Debian's mosquitto is installed, the same dialogues run against it, and
// both columns are printed. Where they differ, one of the two is wrong, or the
// test is: a look at the specification tells. To see them:
//
//	go test -v -run TestConformance ./gateway/broker/conformance
//	go test -v -run TestConformance ./gateway/broker/conformance -only 'MQTT-3.8.3|SUBACK'
package conformance
