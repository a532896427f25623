package devicetest_test

import (
	"testing"
	"testing/synctest"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/drivers"
	"holdfast/devices/sim"
)

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
	devicetest.Suite(t, drivers.All, onModel)
}

func TestEverySamplePasses(t *testing.T) {
	for _, d := range drivers.All {
		t.Run(d.Name, func(t *testing.T) { devicetest.Check(t, d, bus.Buses{}) })
	}
}
