// Package devices reads sensors that are wired to this machine and emits what
// they measure as events, durable like any other; and it drives outputs as events
// tell it.
//
//	devices:
//	  attic:
//	    driver: bme280
//	    bus: 1                # or /dev/i2c-1, or sim:NAME for a simulated one
//	    address: 0x76
//	    interval: 10s         # from reading to reading
//	    timeout: 5s           # for one reading
//	    topic: plant/attic    # default devices/attic
//	    publish: 1m           # one event for so long, made of all readings in it
//	    readings:
//	      temperature: {offset: -0.4, deadband: 0.1, silence: 10m}
//	  cellar: {driver: bme280, bus: spi0.0}   # select 0 of SPI bus 0, /dev/spidev0.0
//	  pump: {driver: output, chip: gpiochip0, line: 17}
//
// # Events
//
// Each reading is an event of its own with the source device, the device as its
// client and the time at which it was read. A status event, retained, tells when
// a device goes and comes back.
//
//	devices/attic/temperature   {"value":21.37,"unit":"Cel"}
//	devices/attic/temperature   {"value":21.4,"unit":"Cel","n":6}             an aggregate of 6
//	devices/attic/temperature   {"value":-128,"unit":"Cel","quality":"out_of_range"}
//	devices/attic/status        {"state":"online"}
//	devices/attic/status        {"state":"offline","error":"…"}
//	devices/pump/set            {"value":"on","id":"c-17"}                    a command
//	devices/pump/ack            {"id":"c-17","state":"done","value":1}        its report
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
//   - One goroutine per bus, whose selects it is for SPI, does all transfers. A device that holds the bus
//     delays those that share it, for as long as the adapter allows (the kernel
//     gives up after 2 to 3 s), and nobody else.
//   - An adapter, and the chip of a line, may be unplugged and plugged in again.
//   - Each edge of an input is an event of its own. Edges that were lost because
//     nobody took them in time are counted, by the numbers that the kernel gives.
//   - Of the commands for an output only the newest is carried out, none that is
//     older than its expiry (10 s from its cause by default), none twice, none
//     from a replay. Each is reported. An output has its fail-safe level from the
//     start until a command, and at the end.
//   - A reading beyond what its device can measure is flagged, and never part of
//     an aggregate. The limits of each driver are in its documentation.
//
// What it does not promise: readings between two polls, and those of the time in
// which a device or the gateway was away.
//
// # Ahead of the log
//
// What has to react within milliseconds cannot wait for the disk: [Set.Observe]
// sees edges before they are in the log, and [Set.React] has outputs carry out what
// immediate rules make of them. The same rules give the same commands once more
// from the log; [Set.Execute] knows them again, and they are reported as all
// commands are, with the command in the log as the cause.
//
//   - An act is done once. What was done before a crash is not done again from the
//     log: its command is reported as refused.
//   - Until its command is in the log, an act is newer than all that comes from
//     there: a command that was given before the edge does not undo it.
//   - An act whose edge does not get into the log is reported after 10 s, without a
//     cause.
//   - Nothing acts on a replay, a backtest or a test of rules.
//
// # SPI
//
// Nothing acknowledges anything on an SPI bus: a chip that is not there reads as
// ones or zeros. Drivers know their chip by its number before each reading; the
// driver registers does so where expect says what it is.
//
// # Parts
//
// A [Driver] knows one kind of device. It makes a [Source] from the settings of
// one, for sensors by [Poll], for lines by [Watch]. A [Set] is all devices of a
// configuration. How to write a driver is shown by the example below; package
// drivers lists them. Package bus opens real buses, package sim has models of
// chips, package devicetest has the suites that hold for models and for devices of
// the kernel, package switching is what outputs have in common.
package devices
