package sim

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/ads1x15"
	"periph.io/x/devices/v3/mcp23xxx"
	"periph.io/x/devices/v3/pca9548"
	"periph.io/x/devices/v3/tmp102"
)

// Drivers that others wrote are a check on models that we wrote: both would
// have to misread the data sheet in the same way.
func TestPeriphsDriversReadTheModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBus("b")
		b.Plug(0x48, NewADS1115(func(_ time.Time, input int) float64 { return 0.5 + float64(input) }))
		b.Plug(0x49, NewThermometer(12, Steady(Climate{Temperature: -10.5})))

		adc, err := ads1x15.NewADS1115(b, &ads1x15.DefaultOpts)
		if err != nil {
			t.Fatal(err)
		}
		pin, err := adc.PinForChannel(ads1x15.Channel2, 4*physic.Volt, 8*physic.Hertz, ads1x15.SaveEnergy)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := pin.Read(); err != nil || math.Abs(float64(s.V)/float64(physic.Volt)-2.5) > 0.001 {
			t.Errorf("ADS1115: %v, %v", s.V, err)
		}

		thermometer, err := tmp102.NewI2C(b, 0x49, nil)
		if err != nil {
			t.Fatal(err)
		}
		var env physic.Env
		if err := thermometer.Sense(&env); err != nil || env.Temperature.Celsius() != -10.5 {
			t.Errorf("TMP102: %v, %v", env.Temperature, err)
		}

		mux := NewPCA9548()
		mux.Channel(5).Plug(0x4b, NewThermometer(12, Steady(Climate{Temperature: 33})))
		b.Plug(0x70, mux)
		if _, err := pca9548.New(b, &pca9548.DefaultOpts); err != nil {
			t.Errorf("PCA9548: %v", err)
		}
		if err := b.Tx(0x4b, []byte{0}, make([]byte, 2)); err == nil {
			t.Error("what is behind a closed channel answers")
		}
		if err := b.Tx(0x70, []byte{1 << 5}, nil); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 2)
		if err := b.Tx(0x4b, []byte{0}, p); err != nil || p[0] != 33 {
			t.Errorf("through the open channel: %v, %v", p, err)
		}

		expander := NewMCP23017()
		b.Plug(0x20, expander)
		chip, err := mcp23xxx.NewI2C(b, mcp23xxx.MCP23017, 0x20)
		if err != nil {
			t.Fatal(err)
		}
		if err := chip.Pins[1][7].Out(true); err != nil {
			t.Fatal(err)
		}
		if output, high := expander.Output(15); !output || !high {
			t.Errorf("B7 of the MCP23017: output %v, high %v", output, high)
		}
		expander.Set(3, true)
		if !chip.Pins[0][3].Read() {
			t.Error("A3 of the MCP23017 reads low")
		}
	})
}
