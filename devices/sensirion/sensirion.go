// Package sensirion speaks the protocol that Sensirion's sensors share: commands
// without an answer, and answers in words of two bytes, each followed by a
// checksum (CRC-8, polynomial 0x31, initial value 0xff; data sheet SHT3x-DIS
// version 5, page 14, table 20: 0xbeef gives 0x92).
package sensirion

import (
	"encoding/binary"
	"errors"

	"periph.io/x/conn/v3/i2c"
)

// ErrChecksum means that an answer has been damaged on its way.
var ErrChecksum = errors.New("the checksum is wrong; is the cable too long, or a pull-up missing?")

// CRC returns the checksum of bytes.
func CRC(p []byte) byte {
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

// Command sends a command.
func Command(d *i2c.Dev, bytes ...byte) error { return d.Tx(bytes, nil) }

// Words reads so many words, after it has sent a command if there is one.
func Words(d *i2c.Dev, n int, command ...byte) ([]uint16, error) {
	buf := make([]byte, 3*n)
	if err := d.Tx(command, buf); err != nil {
		return nil, err
	}
	words := make([]uint16, n)
	for i := range words {
		w := buf[3*i : 3*i+3]
		if CRC(w[:2]) != w[2] {
			return nil, ErrChecksum
		}
		words[i] = binary.BigEndian.Uint16(w)
	}
	return words, nil
}

// Celsius converts a word to °C (SHT3x-DIS section 4.13; the SHT4x and the SCD4x
// use the same formula).
func Celsius(word uint16) float64 { return -45 + 175*float64(word)/65535 }
