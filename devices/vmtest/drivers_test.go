//go:build vm

package vmtest

import (
	"time"

	"holdfast/devices"
	"holdfast/devices/ads1115"
	"holdfast/devices/bh1750"
	"holdfast/devices/bme280"
	"holdfast/devices/counter"
	"holdfast/devices/ina219"
	"holdfast/devices/ina226"
	"holdfast/devices/input"
	"holdfast/devices/mcp9808"
	"holdfast/devices/output"
	"holdfast/devices/registers"
	"holdfast/devices/scd4x"
	"holdfast/devices/sht3x"
	"holdfast/devices/sht4x"
	"holdfast/devices/tmp102"
)

// sensors are the drivers that the suite tries.
var sensors = []devices.Driver{
	ads1115.Driver, bh1750.Driver, bme280.Driver, bme280.BMP280, ina219.Driver, ina226.Driver, mcp9808.Driver,
	registers.Driver, scd4x.Driver, sht3x.Driver, sht4x.Driver, tmp102.Driver, tmp102.LM75,
}

var lineDrivers = []devices.Driver{counter.Driver, input.Driver, output.Driver}

// How long a change of a line takes to become an edge, several times over.
const (
	chipSettles   = 20 * time.Millisecond
	bridgeSettles = 250 * time.Millisecond // its driver looks every 40 ms
)
