package devicetest_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/devices/devicetest"
	"holdfast/devices/drivers"
	"holdfast/devices/sim"
)

// held answers each register, or each command of one byte, with the bytes that it
// was given. It takes notice only of what is written to the register 1 of an
// ADS1115, which then says that the conversion is over.
type held struct {
	answers map[byte][]byte
	chosen  byte
}

func (h *held) Write(_ time.Time, p []byte) {
	h.chosen = p[0]
	if len(p) == 3 && p[0] == 1 {
		h.answers[1] = []byte{p[1] | 0x80, p[2]}
	}
}

func (h *held) Read(_ time.Time, p []byte) { copy(p, h.answers[h.chosen]) }

// word has a register hold a word, the high byte first.
func word(raw uint16) []byte { return []byte{byte(raw >> 8), byte(raw)} }

func thermometer(raw uint16) *held { return &held{answers: map[byte][]byte{0: word(raw)}} }

func heldMCP9808(raw uint16) *held {
	return &held{answers: map[byte][]byte{1: word(0), 5: word(raw), 6: word(0x0054), 7: word(0x0400), 8: {3}}}
}

func heldADS1115(raw uint16) *held {
	return &held{answers: map[byte][]byte{0: word(raw), 1: word(0xc583)}}
}

// What the drivers make of the numbers that the data sheets print, as they come
// over the bus. Examples of the other chips are in [devicetest.Cases], where the
// models give the same numbers, and beside the drivers of the BME280 and the
// DS18B20.
func TestTheNumbersOfTheDataSheetsAreReadAsTheySay(t *testing.T) {
	type vector struct {
		driver, source, settings string
		address                  uint16
		chip                     sim.Device
		want                     map[string]float64
		flagged                  bool
	}
	var all []vector
	// TI SBOS397C, page 6, table 5: 12 bits from the top.
	for raw, celsius := range map[uint16]float64{
		0x7ff: 127.9375, 0x640: 100, 0x500: 80, 0x4b0: 75, 0x320: 50, 0x190: 25, 0x004: 0.25, 0x000: 0, 0xffc: -0.25, 0xe70: -25, 0xc90: -55,
	} {
		all = append(all, vector{"tmp102", "SBOS397C page 6", "", 0x48, thermometer(raw << 4), map[string]float64{"temperature": celsius}, celsius > 125})
	}
	// ST's STLM75, Doc ID 13296 Rev 12, page 15, table 3: 9 bits from the top.
	for raw, celsius := range map[uint16]float64{0x0fa: 125, 0x032: 25, 0x001: 0.5, 0x000: 0, 0x1ff: -0.5, 0x1ce: -25, 0x1b0: -40, 0x192: -55} {
		all = append(all, vector{"lm75", "Doc ID 13296 Rev 12 page 15", "", 0x48, thermometer(raw << 7), map[string]float64{"temperature": celsius}, false})
	}
	// Microchip DS25095A, page 24, register 5-4, and page 25, equation 5-1: the
	// three highest bits are those of the alert, the next is the sign.
	for raw, celsius := range map[uint16]float64{0x0194: 25.25, 0xe194: 25.25, 0x1e6c: -25.25, 0xc001: 0.0625, 0x1fff: -0.0625, 0x07d0: 125} {
		all = append(all, vector{"mcp9808", "DS25095A page 25", "", 0x18, heldMCP9808(raw), map[string]float64{"temperature": celsius}, false})
	}
	// Sensirion SHT3x-DIS version 5 (May 2018), page 14: table 20 gives the checksum
	// of 0xbeef, section 4.13 the formulas.
	beef := []byte{0xbe, 0xef, 0x92, 0xbe, 0xef, 0x92}
	all = append(all, vector{"sht3x", "version 5 page 14", "", 0x44, &held{answers: map[byte][]byte{0x24: beef, 0xf3: beef[:3]}},
		map[string]float64{"temperature": -45 + 175*48879.0/65535, "humidity": 100 * 48879.0 / 65535}, false})
	// SHT4x version 6, section 4.6, with the same checksum; no page is known for sure.
	all = append(all, vector{"sht4x", "version 6 section 4.6", "", 0x44, &held{answers: map[byte][]byte{0xfd: beef, 0x89: beef}},
		map[string]float64{"temperature": -45 + 175*48879.0/65535, "humidity": -6 + 125*48879.0/65535}, false})
	// TI SBAS444D, section Data Format (its table is table 8-3 of SBASAV5 for the
	// ADS1115L, which reads alike); no page is known for sure. In a range of
	// 4.096 V the ends mean that it was more.
	for raw, volts := range map[uint16]float64{0x7fff: 4.096 * 32767 / 32768, 0x0001: 4.096 / 32768, 0x0000: 0, 0xffff: -4.096 / 32768, 0x8000: -4.096} {
		all = append(all, vector{"ads1115", "SBAS444D Data Format", "inputs: {v: {input: 0-1, range: 4.096}}", 0x48, heldADS1115(raw),
			map[string]float64{"v": volts}, raw == 0x7fff || raw == 0x8000})
	}
	for _, v := range all {
		t.Run(fmt.Sprintf("%s, %s, %v", v.driver, v.source, v.want), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				board := sim.NewBus("board")
				board.Plug(v.address, v.chip)
				buses, bus := onModel.Open(t, board)
				settings := v.settings
				if settings != "" {
					settings = ", " + settings
				}
				_, set := devicetest.Start(t, fmt.Sprintf("x: {driver: %s, bus: %q, address: %#x%s}", v.driver, bus, v.address, settings), drivers.All, buses)
				time.Sleep(5 * time.Second)
				latest, _ := set.Latest("x")
				if len(latest) != len(v.want) {
					t.Fatalf("%+v; %+v", latest, set.Status()[0])
				}
				for _, r := range latest {
					if want := v.want[r.Name]; !(math.Abs(r.Value-want) <= 0.005+1e-9) || v.driver == "ads1115" && math.Abs(r.Value-want) > 1e-6 {
						t.Errorf("%s is %v, want %v", r.Name, r.Value, want)
					}
					if r.Good == v.flagged {
						t.Errorf("%s is good: %v", r.Name, r.Good)
					}
				}
			})
		})
	}
}
