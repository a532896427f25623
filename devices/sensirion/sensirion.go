// Package sensirion speaks the protocol that Sensirion's sensors share: commands
// without an answer, and answers in words of two bytes, each followed by a
// checksum (CRC-8, polynomial 0x31, initial value 0xff; data sheet SHT3x-DIS
// version 5, page 14, table 20: 0xbeef gives 0x92).
package sensirion

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
)

// errChecksum means that an answer has been damaged on its way.
var errChecksum = errors.New("the checksum is wrong; is the cable too long, or a pull-up missing?")

// checksum returns the checksum of bytes.
func checksum(p []byte) byte {
	crc := byte(0xff)
	for _, b := range p {
		crc ^= b
		for range 8 {
			if crc&0x80 != 0 {
				crc = crc<<1 ^ 0x31
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// Ask sends a command and, after a time during which the bus is free, reads so many
// words.
func Ask(ctx context.Context, d *i2c.Dev, n int, after time.Duration, command ...byte) ([]uint16, error) {
	if err := d.Tx(command, nil); err != nil {
		return nil, err
	}
	if err := devices.Wait(ctx, after); err != nil {
		return nil, err
	}
	return Words(d, n)
}

// Words reads so many words, after it has sent a command if there is one.
func Words(d *i2c.Dev, n int, command ...byte) ([]uint16, error) {
	buf := make([]byte, 3*n)
	if err := d.Tx(command, buf); err != nil {
		return nil, err
	}
	words := make([]uint16, n)
	for i := range words {
		w := buf[3*i : 3*i+3]
		if checksum(w[:2]) != w[2] {
			return nil, errChecksum
		}
		words[i] = binary.BigEndian.Uint16(w)
	}
	return words, nil
}

// Celsius converts a word to °C (SHT3x-DIS section 4.13; the SHT4x and the SCD4x
// use the same formula).
func Celsius(word uint16) float64 { return -45 + 175*float64(word)/65535 }

// Climate are the quantities of the SHT3x and the SHT4x.
var Climate = []devices.Quantity{
	{Name: "temperature", Unit: "Cel", Low: -40, High: 125},
	{Name: "humidity", Unit: "%RH", Low: 0, High: 100},
}

// Readings are those of the quantities of [Climate].
func Readings(celsius, humidity float64) []devices.Reading {
	return []devices.Reading{
		{Name: "temperature", Unit: "Cel", Value: devices.Round(celsius, 2)},
		{Name: "humidity", Unit: "%RH", Value: devices.Round(humidity, 2)},
	}
}
