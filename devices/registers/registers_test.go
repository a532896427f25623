package registers_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/registers"
	"holdfast/devices/sim"
)

// chip answers each register with eight bytes of its own, and remembers what
// was written.
type chip struct {
	mu      sync.Mutex
	bytes   map[byte][]byte
	pointer byte
	written []string
}

func (c *chip) Write(_ time.Time, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pointer = p[0]
	if len(p) > 1 {
		c.written = append(c.written, fmt.Sprintf("%x", p))
	}
}

func (c *chip) Read(_ time.Time, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	copy(p, c.bytes[c.pointer])
}

// seen returns what was written, in hexadecimal.
func (c *chip) seen() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.written, " ")
}

func (c *chip) become(reg byte, b ...byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes[reg] = b
}

func start(t *testing.T, c *chip, settings string) (*devicetest.Log, *devices.Set) {
	t.Helper()
	board := sim.NewBus("b")
	board.Plug(0x30, c)
	log, set := devicetest.Start(t, "x: {driver: registers, bus: sim:b, address: 0x30, interval: 1s, "+settings+"}", []devices.Driver{registers.Driver},
		bus.Buses{Simulated: func(string) (i2c.BusCloser, error) { return board, nil }})
	time.Sleep(500 * time.Millisecond)
	return log, set
}

func TestABitPatternIsReadAsItIsDescribed(t *testing.T) {
	for _, c := range []struct {
		name, register, bytes, want string
	}{
		{"a byte", "at: 1", "80", "128"},
		{"signed", "at: 1, signed: true", "80", "-128"},
		{"big endian", "at: 1, bytes: 2", "0102", "258"},
		{"little endian", "at: 1, bytes: 2, order: little", "0102", "513"},
		{"three bytes, signed", "at: 1, bytes: 3, signed: true", "fffffe", "-2"},
		{"eight bytes, signed", "at: 1, bytes: 8, signed: true", "fffffffffffffffe", "-2"},
		{"twelve bits of sixteen", "at: 1, bytes: 2, shift: 4, signed: true, scale: 0.0625", "e700", "-25"},
		{"a field in the middle", "at: 1, shift: 2, bits: 3", "d4", "5"},
		{"a signed field in the middle", "at: 1, shift: 2, bits: 3, signed: true", "d4", "-3"},
		{"scale and offset", "at: 1, bytes: 2, scale: 0.1, offset: -40", "01c2", "5"},
		{"behind other bytes", "at: 1, skip: 2, bytes: 2", "aabb0102", "258"},
		{"with a checksum", "at: 1, bytes: 2, crc: {poly: 0x31, init: 0xff}", "beef92", "48879"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b []byte
				if _, err := fmt.Sscanf(c.bytes, "%x", &b); err != nil {
					t.Fatal(err)
				}
				log, set := start(t, &chip{bytes: map[byte][]byte{1: b}}, "registers: {v: {"+c.register+"}}")
				lines := log.Lines("devices/x/v")
				if len(lines) != 1 || lines[0] != `devices/x/v {"value":`+c.want+`}` {
					t.Errorf("%v, want %s; %+v", lines, c.want, set.Status()[0])
				}
			})
		})
	}
}

func TestADeviceIsSetUpEachTimeItIsFoundAndCheckedByItsIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chip{bytes: map[byte][]byte{0: {0x42}, 1: {7}}}
		_, set := start(t, c, "init: [[0x10, 0x01], [0x11, 0x80, 0x00]], registers: {id: {at: 0, expect: 0x42}, v: {at: 1}}")
		if got := c.seen(); got != "1001 118000" {
			t.Errorf("written %s", got)
		}
		c.become(0, 0x43)
		time.Sleep(time.Second)
		if s := set.Status()[0]; !strings.Contains(s.Err, "read id: it is 0x43, not 0x42; is this another device?") {
			t.Errorf("%+v", s)
		}
		if got := c.seen(); !strings.HasPrefix(got, "1001 118000 1001 118000") {
			t.Errorf("written %s", got)
		}
	})
}

func TestMistakesAreShownAtTheirPlace(t *testing.T) {
	for settings, want := range map[string]string{
		"bus: 1, address: 0x30":                                                                 `the required key "registers" is missing`,
		"bus: 1, registers: {v: {at: 1}}":                                                       `the required key "address" is missing`,
		"bus: 1, address: 0x30, registers: {v: {}}":                                             `the required key "at" is missing`,
		"bus: 1, address: 0x30, registers: {v: {at: 0x100}}":                                    "0x100 is more than a byte",
		"bus: 1, address: 0x30, registers: {v: {at: one}}":                                      `"one" is not a number`,
		"bus: 1, address: 0x30, registers: {v: {at: 1, bits: 9}}":                               "9 bits above the lowest 0 are more than the 8 of 1 bytes",
		"bus: 1, address: 0x30, registers: {v: {at: 1, shift: 8}}":                              "are more than the 8 of 1 bytes",
		"bus: 1, address: 0x30, registers: {v: {at: 1, bytes: 3, crc: {poly: 0x31, every: 2}}}": "are not made of groups of 2",
		"bus: 1, address: 0x30, registers: {v: {at: 1, crc: {poly: 0x131}}}":                    "a CRC-8 needs a polynomial",
		"bus: 1, address: 0x30, registers: {id: {at: 1, expect: 1}}":                            "there is no register to read",
		"bus: 1, address: 0x30, init: [[]], registers: {v: {at: 1}}":                            "there is no byte to write",
		"bus: 1, address: 0x30, registers: {v: {at: 1, endian: big}}":                           `unknown key "endian"`,
		"bus: 1, address: 0x30, registers: {v: {at: 1}}, readings: {w: {deadband: 1}}":          `x has no reading "w"`,
	} {
		_, err := devicetest.Load("x: {driver: registers, "+settings+"}", []devices.Driver{registers.Driver}, bus.Buses{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", settings, err, want)
		}
	}
}
