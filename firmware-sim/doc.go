// Package sim is a fleet of virtual sensor boards that speak MQTT to any
// broker. A [Scenario] says which boards there are and how they misbehave, a
// [Fleet] is the sequence of messages that follows from it, and [Run] sends
// that sequence over TCP or TLS as the boards would.
//
// The package imports nothing of the gateway, only the models of chips that the
// drivers are tested on, which boards may carry: what it sends is the contract
// below, and a real board that keeps to it can take the place of any virtual
// one.
//
// # What a board sends
//
// MQTT 3.1.1, clean session, QoS 1, keep alive 30 s. The client identifier is
// <site>-<board> and must be unique at the broker.
//
//	topic                           payload                                                    retained
//	<site>/<area>/<board>/<metric>  {"value":21.37,"unit":"Cel","ts":1763715600123,"seq":17}   no
//	<site>/<area>/<board>/<metric>  {"value":true,"ts":1763715600123,"seq":3}                  no
//	<site>/<area>/<board>/status    {"state":"online","ts":1763715600004}                      yes
//	<site>/<area>/<board>/status    {"state":"offline"}                                        yes
//
// Each topic level has 1 to 64 letters, digits, hyphens, underscores or dots.
// The metric "status" is taken. A payload is one JSON object:
//
//	value  number, or true and false of a door (open) and of motion (seen)
//	unit   the unit of a number: Cel, %RH, mm/s, kWh, %; absent for true and false
//	ts     when it was measured: milliseconds since 1970, UTC, by the clock of
//	       the board, which may be wrong; absent while that clock is not set
//	seq    counts the readings of this metric since the board started, from 1
//
// Receivers ignore keys that they do not know.
//
// # What a board promises
//
//   - On every connection it first publishes the status "online". Its will is
//     the status "offline", retained, QoS 1, so that the broker says so when
//     the link breaks. Before a clean DISCONNECT it publishes "offline" itself.
//   - It keeps a reading until the PUBACK. After a broken link it sends what is
//     not acknowledged again, byte for byte, in the order of seq. So a receiver
//     may see a reading twice, and topic, ts and seq tell that it is the same.
//   - While it cannot send, it keeps a limited number of readings and gives up
//     the oldest. A gap in seq is a reading that the board itself has lost.
//   - A reading that it cannot make, because the chip does not answer or the
//     checksum is wrong, is none: nothing is sent, and seq does not count it.
//   - A counter such as kWh never falls, except to begin at 0 again.
//
// # What is repeatable
//
// The value of a sensor is a pure function of seed, board, metric and time; no
// state and no clock is involved. The same scenario, seed, start and number of
// boards give the same sequence of (time, topic, payload), byte for byte, and
// adding a board changes nothing of the others. Times of faults count from the
// start; the daily cycle follows the time of day, UTC. What depends on the
// broker, such as what is sent again after a link that broke by itself, is not
// part of the sequence.
package sim
