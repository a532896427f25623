// Package ads1115 drives TI's ADS1115, a converter with four inputs of 16 bits,
// at an I²C bus. Each input that is wired is a reading of its own, scaled to what
// is measured:
//
//	inputs:
//	  level:   {input: 0, range: 4.096, table: [[0.66, 0], [3.3, 2.5]], unit: m}
//	  current: {input: 2-3, range: 0.256, gain: 20, unit: A}
//
// From the data sheet SBAS444: ranges are table 8-3's full scales in V, either
// way from 0, rate is in samples per second. The end of a conversion is read
// from the chip, since its clock may be 10 % off.
//
// periph's ads1x15 is not used: it waits for a conversion by its own clock, and
// on a slow chip takes the value of the input before.
package ads1115

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/mmr"

	"holdfast/devices"
	"holdfast/gateway/config"
)

// Driver is the entry in the list of drivers.
var Driver = devices.Driver{
	Name: "ads1115",
	Doc:  "Measures up to four voltages, scaled to other quantities, with a TI ADS1115 at an I²C bus.",
	Sample: `bus: 1
address: 0x48         # to 0x4b by ADDR
interval: 1s
rate: 128             # samples per second: 8, 16, 32, 64, 128, 250, 475, 860
inputs:
  level: {input: 0, range: 4.096}      # or a pair: 0-1, 0-3, 1-3, 2-3
readings:
  level: {table: [[0.66, 0], [3.3, 2.5]], unit: m}
`,
	Addresses: []devices.Address{0x48, 0x49, 0x4a, 0x4b},
	New:       newSource,
}

// Registers, and the fields of the configuration (data sheet SBAS444).
const (
	regConversion = 0
	regConfig     = 1

	start       = 0x8000 // reads as 1 again when the conversion is done
	single      = 0x0100
	noCompare   = 0x0003
	muxShift    = 12
	rangeShift  = 9
	rateShift   = 5
	halfOfScale = 32768
)

var (
	inputs = map[string]uint16{"0-1": 0, "0-3": 1, "1-3": 2, "2-3": 3, "0": 4, "1": 5, "2": 6, "3": 7}
	ranges = map[string]uint16{"6.144": 0, "4.096": 1, "2.048": 2, "1.024": 3, "0.512": 4, "0.256": 5}
	rates  = map[int]uint16{8: 0, 16: 1, 32: 2, 64: 3, 128: 4, 250: 5, 475: 6, 860: 7}
)

type input struct {
	name   string
	config uint16
	scale  float64 // V
}

func newSource(s *config.Section, w *devices.Wiring) (devices.Source, error) {
	set := struct {
		devices.Polling
		devices.I2C
		Rate   int          `config:"rate,oneof=8|16|32|64|128|250|475|860"`
		Inputs config.Named `config:"inputs,required"`
	}{Polling: devices.Every(time.Second), I2C: devices.I2C{Address: 0x48}, Rate: 128}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	var errs config.Errors
	errs.Add(set.Between(s, "ADS1115", 0x48, 0x4b))
	var all []input
	var quantities []devices.Quantity
	for _, in := range set.Inputs {
		own := struct {
			Input string `config:"input,required,oneof=0|1|2|3|0-1|0-3|1-3|2-3"`
			Range string `config:"range,oneof=6.144|4.096|2.048|1.024|0.512|0.256"`
		}{Range: "4.096"}
		errs.Add(in.Decode(&own))
		scale, _ := strconv.ParseFloat(own.Range, 64)
		all = append(all, input{
			in.Name(), start | single | noCompare | inputs[own.Input]<<muxShift | ranges[own.Range]<<rangeShift | rates[set.Rate]<<rateShift, scale,
		})
		// The ends mean that there was more than could be measured.
		step := scale / halfOfScale
		quantities = append(quantities, devices.Quantity{Name: in.Name(), Unit: "V", Low: -scale + step/2, High: scale - 1.5*step})
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	port, err := w.I2C(s, set.I2C)
	if err != nil {
		return nil, err
	}
	open := func(d *i2c.Dev) (devices.Sensor, error) {
		return &sensor{mmr.Dev8{Conn: d, Order: binary.BigEndian}, all, time.Second / time.Duration(set.Rate)}, nil
	}
	return devices.Poll(set.Polling, port.Opener(open), quantities...), nil
}

type sensor struct {
	chip   mmr.Dev8
	inputs []input
	period time.Duration
}

// Read converts one input after the other.
func (s *sensor) Read(ctx context.Context) ([]devices.Reading, error) {
	var readings []devices.Reading
	for _, in := range s.inputs {
		v, err := s.convert(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("measure %s with the ADS1115: %w", in.name, err)
		}
		readings = append(readings, devices.Reading{Name: in.name, Unit: "V", Value: v})
	}
	return readings, nil
}

func (s *sensor) convert(ctx context.Context, in input) (float64, error) {
	if err := s.chip.WriteUint16(regConfig, in.config); err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(2*s.period + 10*time.Millisecond); ; {
		if err := devices.Wait(ctx, s.period); err != nil {
			return 0, err
		}
		state, err := s.chip.ReadUint16(regConfig)
		switch {
		case err != nil:
			return 0, err
		case state&^start != in.config&^start:
			return 0, errors.New("it has lost its settings; was its supply interrupted?")
		case state&start != 0:
			raw, err := s.chip.ReadUint16(regConversion)
			return devices.Round(float64(int16(raw))*in.scale/halfOfScale, 7), err
		case time.Now().After(deadline):
			return 0, errors.New("the conversion does not end")
		}
	}
}
