// Package bench loads an MQTT broker and measures what it acknowledges. It
// speaks MQTT by itself and knows nothing of the gateway, so that the same
// load, counted in the same way, goes to Holdfast and to any other broker.
//
// A load generator usually shares its cores with the broker, so it must cost
// little: one goroutine drives all connections through epoll, packets are
// copied from a template of the client with only the changing digits written
// anew, a write carries many packets, and acknowledgements are counted in the
// byte stream as they come. It runs on Linux only.
//
// What it counts is what a client can rely on: a message is acknowledged when
// its PUBACK without an error code has been read. At QoS 0 there is nothing to
// rely on; there the rate is that of messages which the broker has read, by a
// PINGREQ behind the last of them.
//
// Subscribers, where a load has them, check what the broker delivers: every
// payload carries the number of its client and of the message, and each
// subscriber notes which it was sent. Missing is what was acknowledged, or sent
// at QoS 0, and did not come before the broker fell silent.
package bench
