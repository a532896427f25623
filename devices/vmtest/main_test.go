//go:build vm

package vmtest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/drivers"
	"holdfast/devices/gpio"
	"holdfast/devices/sim"
	"holdfast/devices/vmtest/hardware"
)

func TestMain(m *testing.M) {
	if os.Getenv("VMTEST") == "" {
		fmt.Println("these tests need a machine of their own: run them with .ci/run vm")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// kernel opens what the kernel has, and nothing simulated.
var kernel = bus.Buses{}

var _ devices.Buses = kernel

// pluggable is a piece of hardware.
type pluggable interface {
	Plug() error
	Unplug() error
}

// plug plugs hardware in until the end of the test.
func plug(t *testing.T, p pluggable) {
	t.Helper()
	plugAgain(t, p)
	t.Cleanup(func() { unplug(t, p) })
}

func plugAgain(t *testing.T, p pluggable) {
	t.Helper()
	if err := p.Plug(); err != nil {
		t.Fatal(err)
	}
}

func unplug(t *testing.T, p pluggable) {
	t.Helper()
	if err := p.Unplug(); err != nil {
		t.Error(err)
	}
}

// patience is how long something may take that must happen at some time: far
// longer than it does, for who knows how slow the host of the machine is.
const patience = 5 * time.Minute

// inTime runs a test as it is: waiting takes the machine's time.
func inTime(t *testing.T, f func(*testing.T)) { f(t) }

func TestEverySensorKeepsItsPromisesOnAnAdapterOfTheKernel(t *testing.T) {
	bench := devicetest.Bench{
		InTime: inTime,
		Open: func(t *testing.T, b *sim.Bus) (devices.Buses, string) {
			a := hardware.NewAdapter(b)
			plug(t, a)
			return kernel, a.File
		},
	}
	if hardware.CanSPI() {
		bench.OpenSPI = func(t *testing.T, b *sim.SPI) (devices.Buses, string) {
			s := hardware.NewSelects(b)
			plug(t, s)
			return kernel, s.File
		}
	}
	devicetest.Suite(t, drivers.All, bench)
}

// bridgeWorld is the other side of the lines of a bridge.
type bridgeWorld struct {
	*hardware.Bridge
	t *testing.T
}

func (w bridgeWorld) Line(n int) gpio.Ref { return gpio.Ref{Chip: w.Chip, Line: fmt.Sprint(n)} }
func (w bridgeWorld) Unplug()             { unplug(w.t, w.Bridge) }
func (w bridgeWorld) Plug()               { plugAgain(w.t, w.Bridge) }

// chipWorld is the other side of the lines of a chip.
type chipWorld struct {
	t    *testing.T
	chip *hardware.Chip
}

func (w chipWorld) Line(n int) gpio.Ref { return gpio.Ref{Chip: w.chip.Name, Line: fmt.Sprint(n)} }
func (w chipWorld) Driven(int) []string { return nil }
func (w chipWorld) Unplug()             { unplug(w.t, w.chip) }
func (w chipWorld) Plug()               { plugAgain(w.t, w.chip) }

func (w chipWorld) Set(n int, high bool) {
	if err := w.chip.Set(n, high); err != nil {
		w.t.Error(err)
	}
}

func (w chipWorld) High(n int) bool {
	high, err := w.chip.High(n)
	if err != nil {
		w.t.Error(err)
	}
	return high
}

// panel has lines, of a chip where those can be made and else of a bridge, and is
// plugged in.
type panel struct {
	devicetest.World
	label string // by which the kernel knows the chip
}

func newPanel(t *testing.T) panel {
	t.Helper()
	if !hardware.CanChips() {
		b := hardware.NewBridge(sim.NewBus("panel"))
		plug(t, b)
		return panel{bridgeWorld{b, t}, "cp2112_gpio"}
	}
	c := hardware.NewChip("panel", "", "")
	plug(t, c)
	return panel{chipWorld{t, c}, "panel"}
}

// How long a change of a line takes to become an edge, several times over.
const (
	chipSettles   = 20 * time.Millisecond
	bridgeSettles = 250 * time.Millisecond // its driver looks every 40 ms
)

func TestLinesOfAChip(t *testing.T) {
	devicetest.Lines(t, inTime, chipSettles, func(t *testing.T) (gpio.Lines, devicetest.World) {
		c := hardware.NewChip("panel", make([]string, 8)...)
		plug(t, c)
		return kernel, chipWorld{t, c}
	})
}

// The driver of the bridge tells which levels it was given, so that a glitch
// cannot hide.
func TestLinesOfABridge(t *testing.T) {
	devicetest.Lines(t, inTime, bridgeSettles, func(t *testing.T) (gpio.Lines, devicetest.World) {
		b := hardware.NewBridge(sim.NewBus("bridge"))
		plug(t, b)
		return kernel, bridgeWorld{b, t}
	})
}
