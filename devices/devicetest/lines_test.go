package devicetest_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/devices/devicetest"
	"holdfast/devices/gpio"
	"holdfast/devices/sim"
)

// world is the other side of simulated lines.
type world struct{ *sim.Lines }

func (w world) wire(n int) *sim.Wire  { return w.Wire("sim:x", strconv.Itoa(n)) }
func (w world) Line(n int) gpio.Ref   { return gpio.Ref{Chip: "sim:x", Line: strconv.Itoa(n)} }
func (w world) Set(n int, high bool)  { w.wire(n).Set(high) }
func (w world) High(n int) bool       { return w.wire(n).High() }
func (w world) Driven(n int) []string { return w.wire(n).Driven() }

func (w world) Unplug() { w.all(true) }
func (w world) Plug()   { w.all(false) }

func (w world) all(gone bool) {
	for n := range 8 {
		w.wire(n).Unplug(gone)
	}
}

func TestSimulatedLinesAreLikeThoseOfTheKernel(t *testing.T) {
	devicetest.Lines(t, synctest.Test, 5*time.Millisecond, func(*testing.T) (gpio.Lines, devicetest.World) {
		l := new(sim.Lines)
		return l, world{l}
	})
}
