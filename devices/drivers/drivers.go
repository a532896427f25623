// Package drivers lists the drivers of Holdfast.
package drivers

import (
	"holdfast/devices"
	"holdfast/devices/ads1115"
	"holdfast/devices/bh1750"
	"holdfast/devices/bme280"
	"holdfast/devices/counter"
	"holdfast/devices/ds18b20"
	"holdfast/devices/encoder"
	"holdfast/devices/ina219"
	"holdfast/devices/ina226"
	"holdfast/devices/input"
	"holdfast/devices/mcp23017"
	"holdfast/devices/mcp9808"
	"holdfast/devices/output"
	"holdfast/devices/pwm"
	"holdfast/devices/registers"
	"holdfast/devices/scd4x"
	"holdfast/devices/sht3x"
	"holdfast/devices/sht4x"
	"holdfast/devices/tmp102"
)

// All are the drivers that a configuration can name, and that the suites try. A
// new driver is one line here.
var All = []devices.Driver{
	ads1115.Driver,
	bh1750.Driver,
	bme280.Driver,
	bme280.BMP280,
	counter.Driver,
	ds18b20.Driver,
	encoder.Driver,
	ina219.Driver,
	ina226.Driver,
	input.Driver,
	mcp23017.Driver,
	mcp9808.Driver,
	output.Driver,
	pwm.Driver,
	registers.Driver,
	scd4x.Driver,
	sht3x.Driver,
	sht4x.Driver,
	tmp102.Driver,
	tmp102.LM75,
}
