package devices_test

import (
	"context"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/sim"
	"holdfast/gateway/config"
)

// A new driver is a folder devices/<chip>/ with four things. The first is the
// value that goes into the list of drivers, here for TI's TMP102 thermometer.
var tmp102 = devices.Driver{
	Name: "tmp102",
	Doc:  "Measures temperature with a TI TMP102 at an I²C bus.",
	Sample: `bus: 1
address: 0x48
interval: 10s
`,
	Addresses: []devices.Address{0x48, 0x49, 0x4a, 0x4b},
	New:       newTMP102,
}

// The second makes a source from the settings of one device. Every mistake in
// them comes back with its position; no hardware is touched. Settings of the
// chip itself would be further fields. The quantity says within which limits a
// reading can be true.
func newTMP102(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling // interval, timeout
		devices.I2C     // bus, address
	}{devices.Every(10 * time.Second), devices.I2C{Address: 0x48}}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	return devices.Poll(set.Polling, port.Opener(openTMP102),
		devices.Quantity{Name: "temperature", Unit: "Cel", Low: -55, High: 128}), nil
}

// The third finds the chip and sets it up. It is called again after each
// failure, so that a chip that was unplugged is set up anew.
func openTMP102(d *i2c.Dev) (devices.Sensor, error) {
	const config, continuous = 1, 0x60a0 // data sheet SBOS397: the state after power-on
	if err := d.Tx([]byte{config, continuous >> 8, continuous & 0xff}, nil); err != nil {
		return nil, fmt.Errorf("set up the TMP102: %w", err)
	}
	return &thermometer{d}, nil
}

type thermometer struct{ at *i2c.Dev }

// The fourth reads it once. An error is enough to say that something is wrong:
// the pauses, the status events and the fresh start are not the driver's work.
func (s *thermometer) Read(context.Context) ([]devices.Reading, error) {
	var b [2]byte
	if err := s.at.Tx([]byte{0}, b[:]); err != nil {
		return nil, fmt.Errorf("read the TMP102: %w", err)
	}
	raw := int16(uint16(b[0])<<8|uint16(b[1])) >> 4 // 12 bits of 0.0625 °C
	return []devices.Reading{{Name: "temperature", Value: float64(raw) * 0.0625, Unit: "Cel"}}, nil
}

// A model of the chip lets the driver be tested without one.
type tmp102Model struct {
	raw     uint16
	pointer byte
}

func (m *tmp102Model) Write(_ time.Time, p []byte) { m.pointer = p[0] }

func (m *tmp102Model) Read(_ time.Time, p []byte) {
	if m.pointer == 0 && len(p) == 2 {
		p[0], p[1] = byte(m.raw>>8), byte(m.raw)
	}
}

// How to write a driver, and how to try it on a simulated bus.
func Example_driver() {
	boards := new(sim.Boards)
	boards.Bus("bench").Plug(0x48, &tmp102Model{raw: 0xe700}) // -25 °C in the data sheet

	set, err := devicetest.Load("freezer: {driver: tmp102, bus: sim:bench}",
		[]devices.Driver{tmp102}, bus.Buses{Simulated: boards.Open})
	if err != nil {
		fmt.Println(err)
		return
	}
	log := new(devicetest.Log)
	go func() { _ = set.Run(context.Background(), log.Emit) }()
	defer set.Close()

	for _, e := range log.Wait(context.Background(), "devices/freezer/+", 2) {
		fmt.Println(e.Topic, string(e.Payload))
	}
	// Output:
	// devices/freezer/status {"state":"online"}
	// devices/freezer/temperature {"value":-25,"unit":"Cel"}
}
