package devicetest_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// Each transfer takes 10 ms here, so that the supply fails before, between and after
// those of a reading. What cannot be true may be told if it is flagged.
func TestNoReadingIsMadeOfAChipThatLosesItsSupplyMeanwhile(t *testing.T) {
	for _, c := range devicetest.Cases() {
		if c.SPI != nil || c.Flagged {
			continue
		}
		chip, ok := c.Chip().(interface {
			sim.Device
			PowerOn()
		})
		if !ok {
			continue
		}
		t.Run(c.Driver+" "+c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				board := sim.NewBus("board")
				board.Plug(c.Address, chip)
				board.Slow(10 * time.Millisecond)
				buses, bus := onModel.Open(t, board)
				interval := max(c.Interval, time.Second)
				settings := ""
				if c.Settings != "" {
					settings = ", " + c.Settings
				}
				log, set := devicetest.Start(t, fmt.Sprintf("x: {driver: %s, bus: %q, address: %#x, interval: %v%s}",
					c.Driver, bus, c.Address, interval, settings), drivers.All, buses)
				for phase := range 40 {
					time.Sleep(30*interval + 5*time.Millisecond)
					chip.PowerOn()
					if s := set.Status()[0]; s.State != devices.Online {
						t.Fatalf("phase %d: %+v", phase, s)
					}
				}
				for name, want := range c.Want {
					for _, line := range log.Lines("devices/x/" + name) {
						var v float64
						_, payload, _ := strings.Cut(line, `"value":`)
						if _, err := fmt.Sscanf(payload, "%g", &v); err != nil {
							t.Fatal(err)
						}
						if math.Abs(v-want.V) > want.Within+1e-9 && !strings.Contains(line, "out_of_range") {
							t.Errorf("%s, and it is %v", line, want.V)
						}
					}
				}
			})
		})
	}
}
