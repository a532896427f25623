// Package mcp9808 drives Microchip's MCP9808, a thermometer, at an I²C bus, by
// periph's mcp9808.
//
//	reading      unit  range        resolution  accuracy
//	temperature  Cel   -40 … 125    0.0625      ±0.5 (-20 … 100 °C)
//
// From the data sheet DS25095A. The chip says who it is: manufacturer 0x0054,
// device 0x04 (registers 6 and 7), which is checked when it is found. It
// measures every 250 ms by itself.
package mcp9808

import (
	"context"
	"fmt"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/mcp9808"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "mcp9808",
	Doc:  "Measures temperature with a Microchip MCP9808 at an I²C bus.",
	Sample: `bus: 1
address: 0x18         # to 0x1f by A0, A1 and A2
interval: 10s
`,
	Addresses: []devices.Address{0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f},
	New:       newSource,
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.I2C
	}{devices.Every(10 * time.Second), devices.I2C{Address: 0x18}}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	if err := set.Between(s, "MCP9808", 0x18, 0x1f); err != nil {
		return nil, err
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	return devices.Poll(set.Polling, port.Opener(open),
		devices.Quantity{Name: "temperature", Unit: "Cel", Low: -40, High: 125}), nil
}

func open(d *i2c.Dev) (devices.Sensor, error) {
	var maker, device [2]byte
	err := d.Tx([]byte{6}, maker[:])
	if err == nil {
		err = d.Tx([]byte{7}, device[:])
	}
	if err != nil {
		return nil, fmt.Errorf("find an MCP9808: %w", err)
	}
	if maker != [2]byte{0x00, 0x54} || device[0] != 0x04 {
		return nil, fmt.Errorf("find an MCP9808: the chip at %v says that it is number %#x of maker %#x", devices.Address(d.Addr), device, maker)
	}
	chip, err := mcp9808.New(d.Bus, &mcp9808.Opts{Addr: int(d.Addr), Res: mcp9808.Maximum})
	if err != nil {
		return nil, fmt.Errorf("set up the MCP9808: %w", err)
	}
	// It wakes up asleep or awake, and measures for 250 ms before it knows more
	// than what it knew before.
	time.Sleep(250 * time.Millisecond)
	return sensor{chip}, nil
}

type sensor struct{ chip *mcp9808.Dev }

// Read reads the last measurement.
func (s sensor) Read(context.Context) ([]devices.Reading, error) {
	var env physic.Env
	if err := s.chip.Sense(&env); err != nil {
		return nil, fmt.Errorf("read the MCP9808: %w", err)
	}
	return []devices.Reading{{Name: "temperature", Unit: "Cel", Value: devices.Round(env.Temperature.Celsius(), 4)}}, nil
}
