//go:build vm

package vmtest

import (
	"context"
	"os"
	"strings"
	"testing"
)

// An ast2600-evb has controllers of its own, and thermometers at them: one at bus
// 3, one behind channel 2 of a multiplexer at bus 4. When they are new their
// upper limit, in the register 3, is 80 °C.
func TestTheBusesOfABoard(t *testing.T) {
	model, _ := os.ReadFile("/sys/firmware/devicetree/base/model")
	if !strings.Contains(string(model), "AST2600") {
		return // a PC has none
	}
	set, log := load(t, `
plain:  {driver: registers, bus: 3, address: 0x48, interval: 1s, registers: {limit: {at: 3, bytes: 2, signed: true, scale: 0.00390625, unit: Cel}}}
behind: {driver: registers, bus: "4/0x70:2", address: 0x49, interval: 1s, registers: {limit: {at: 3, bytes: 2, signed: true, scale: 0.00390625, unit: Cel}}}
absent: {driver: lm75, bus: 3, address: 0x4f, interval: 1s}
`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{"plain", "behind"} {
		events := log.Wait(ctx, "devices/"+name+"/limit", 3)
		if len(events) < 3 {
			t.Fatalf("%s: %+v", name, status(set, name))
		}
		if got, want := string(events[2].Payload), `{"value":80,"unit":"Cel"}`; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := wait(t, log, "absent", 1); !strings.Contains(got, "offline") {
		t.Error(got)
	}
}
