package devices_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/sim"
)

func TestAScanFindsWhatAnswersAndDisturbsNoConfiguredDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boards := map[string]*sim.Bus{"good": sim.NewBus("good"), "stuck": sim.NewBus("stuck")}
		boards["good"].Plug(0x48, &tmp102Model{})
		boards["good"].Plug(0x4b, &tmp102Model{})
		for a := range uint16(0x80) {
			boards["stuck"].Break(a, sim.Stall(3*time.Second))
		}
		probed := false
		boards["good"].Break(0x49, func() error { probed = true; return sim.ErrNACK })
		_, set := devicetest.Start(t, "a: {driver: tmp102, bus: sim:good, interval: 1h}\nb: {driver: tmp102, bus: sim:good, address: 0x4a}\nc: {driver: tmp102, bus: sim:stuck, interval: 1h}",
			[]devices.Driver{tmp102}, bus.Buses{Root: t.TempDir(), Simulated: func(name string) (i2c.BusCloser, error) { return boards[name], nil }})
		time.Sleep(10 * time.Second)

		before := boards["good"].Transfers()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		var got []string
		for _, f := range set.Scan(ctx, []devices.Driver{tmp102}) {
			got = append(got, fmt.Sprintf("%s %s %s %v %v", f.Bus, f.At, f.Device, f.Drivers, f.Err != ""))
		}
		want := []string{
			"sim:good 0x48 a [] false", "sim:good 0x4a b [] false", "sim:good 0x4b  [tmp102] false",
			"sim:stuck 0x48 c [] false", "sim:stuck   [] true",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("the stuck bus held the scan for %v", took)
		}
		if n := boards["good"].Transfers() - before; n > 0x70+10 || !probed {
			t.Errorf("%d transfers", n)
		}
	})
}
