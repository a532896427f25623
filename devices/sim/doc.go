// Package sim holds models of sensor chips at register level, and the I²C, SPI
// and 1-Wire buses they sit on. A driver cannot tell a model from the chip: it
// reads the same identity and calibration, starts measurements by the same bits,
// waits as long for them and computes the values from the same raw numbers. What
// the models measure is a [Weather], a function of time, so that tests repeat.
//
// Faults come on order: a device that is not acknowledged ([NACK]), one that
// holds the bus ([Stall]), one that is unplugged ([Bus.Unplug]), that lost its
// settings with its supply ([BME280.PowerOn]), whose values are stuck
// ([BME280.Freeze]), or that reads as all ones ([Floating]).
//
// The package imports nothing of the gateway but what lines are (package gpio).
// Chips live in the time that their bus tells them: that of time.Now, and so of
// testing/synctest, or that of a scenario ([Bus.Clock]), as in package firmware-sim.
package sim
