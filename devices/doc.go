// Package devices reads sensors that are wired to this machine and emits what
// they measure as events, durable like any other.
//
//	devices:
//	  attic:
//	    driver: bme280
//	    bus: 1                # or /dev/i2c-1, or sim:NAME for a simulated one
//	    address: 0x76
//	    interval: 10s         # from reading to reading
//	    timeout: 5s           # for one reading
//	    topic: plant/attic    # default devices/attic
//
// # Events
//
// Each reading is an event of its own with the source device, the device as its
// client and the time at which it was read. A status event, retained, tells when
// a device goes and comes back.
//
//	devices/attic/temperature   {"value":21.37,"unit":"Cel"}
//	devices/attic/status        {"state":"online"}
//	devices/attic/status        {"state":"offline","error":"…"}
//
// Units are symbols of the SenML registry (RFC 8428).
//
// # What is promised
//
//   - A reading counts as captured once it is on disk. While the log refuses or
//     lags, no device waits: the newest value of each reading is kept, those that
//     it replaced count as missed.
//   - Events of one topic keep their order.
//   - A device that fails never stops another. Its driver is started anew after
//     100 ms, then 1 s, doubling to 30 s; after two failures in a row it is
//     offline. What it was told at its setup, it is told again.
//   - One goroutine per bus does all transfers. A device that holds the bus
//     delays those that share it, for as long as the adapter allows (the kernel
//     gives up after 2 to 3 s), and nobody else.
//   - An adapter may be unplugged and plugged in again.
//
// What it does not promise: readings between two polls, and those of the time in
// which a device or the gateway was away. Values are not checked for sense.
//
// # Parts
//
// A [Driver] knows one kind of device. It makes a [Source] from the settings of
// one, for sensors by [Poll]. A [Set] is all devices of a configuration. How to
// write a driver is shown by the example below. Package bus opens real buses,
// package sim has models of chips, package devicetest helps to test.
package devices
