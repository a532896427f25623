package devicetest_test

import (
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"

	"holdfast/devices"
	"holdfast/devices/ads1115"
	"holdfast/devices/bh1750"
	"holdfast/devices/bme280"
	"holdfast/devices/bus"
	"holdfast/devices/counter"
	"holdfast/devices/devicetest"
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
	"holdfast/devices/sim"
	"holdfast/devices/tmp102"
)

var allDrivers = []devices.Driver{
	ads1115.Driver, bh1750.Driver, bme280.Driver, bme280.BMP280, counter.Driver, ds18b20.Driver, encoder.Driver,
	ina219.Driver, ina226.Driver, input.Driver, mcp23017.Driver, mcp9808.Driver, output.Driver, pwm.Driver,
	registers.Driver, scd4x.Driver, sht3x.Driver, sht4x.Driver, tmp102.Driver, tmp102.LM75,
}

// onModel is the bench where waiting takes no time.
var onModel = devicetest.Bench{
	InTime: synctest.Test,
	Open: func(_ *testing.T, b *sim.Bus) (devices.Buses, string) {
		return bus.Buses{Simulated: func(string) (i2c.BusCloser, error) { return b, nil }}, "sim:board"
	},
	OpenSPI: func(_ *testing.T, b *sim.SPI) (devices.Buses, string) {
		return bus.Buses{SimulatedSPI: func(_ string, sel uint16) spi.PortCloser { return b.Port(sel) }}, "sim:board/spi0"
	},
}

func TestEverySensorKeepsItsPromisesOnItsModel(t *testing.T) {
	devicetest.Suite(t, allDrivers, onModel)
}

func TestEverySamplePasses(t *testing.T) {
	for _, d := range allDrivers {
		t.Run(d.Name, func(t *testing.T) { devicetest.Check(t, d, bus.Buses{}) })
	}
}
