package sim

import (
	"slices"
	"time"

	models "holdfast/devices/sim"
)

// at is where a chip is on its bus; on a board each has a bus of its own, so that
// it does not matter.
const at = 0x48

// wire is what the firmware of a board reaches a chip by: a bus in the time of the
// scenario, or the single wire of a thermometer. Once something has failed what is
// read is worth nothing.
type wire struct {
	bus    *models.Bus
	probe  *models.DS18B20
	now    time.Time
	failed bool
}

func newWire(now time.Time) *wire {
	w := &wire{bus: models.NewBus("board"), now: now}
	w.bus.Clock(func() time.Time { return w.now })
	return w
}

func (w *wire) plug(d models.Device)      { w.bus.Plug(at, d) }
func (w *wire) wait(d time.Duration)      { w.now = w.now.Add(d) }
func (w *wire) write(p ...byte)           { w.tx(p, nil) }
func (w *wire) read(n int) []byte         { return w.ask(n) }
func (w *wire) word(register byte) uint16 { return uint16(number(w.ask(2, register))) }

// ask writes p and reads n bytes.
func (w *wire) ask(n int, p ...byte) []byte {
	answer := make([]byte, n)
	w.tx(p, answer)
	return answer
}

func (w *wire) tx(p, answer []byte) {
	if w.bus.Tx(at, p, answer) != nil {
		w.failed = true
	}
}

// checked reads n words, each with its checksum.
func (w *wire) checked(n int) (words []float64) {
	for b := range slices.Chunk(w.read(3*n), 3) {
		if models.CRC8(b[:2]) != b[2] {
			w.failed = true
		}
		words = append(words, float64(number(b[:2])))
	}
	return words
}

// scratchpad has the thermometer measure.
func (w *wire) scratchpad() (pad [9]byte) {
	w.wait(750 * time.Millisecond)
	if w.probe != nil {
		pad = w.probe.Scratchpad(w.now)
	}
	if w.probe == nil || models.CRCOneWire(pad[:8]) != pad[8] {
		w.failed = true
	}
	return pad
}

// number returns bytes as a number, the high one first.
func number(b []byte) (n uint32) {
	for _, b := range b {
		n = n<<8 | uint32(b)
	}
	return n
}

// Fault is something that is wrong with the chip of a sensor, once in every Every
// for For. That a value drifts, freezes or jumps are settings of all sensors.
type Fault struct {
	Window `yaml:",inline"`
	Is     string `yaml:"is"` // one of [Faults]
}

// FaultKind is something that may be wrong with a chip.
type FaultKind struct {
	Name  string // in scenarios
	About string // what comes of it

	breaks func(w *wire)
}

// Faults returns all that may be wrong with a chip.
func Faults() []FaultKind {
	return []FaultKind{
		{"nack", "the chip does not answer: nothing is sent of this sensor", func(w *wire) {
			w.probe = nil
			w.bus.Break(at, models.NACK)
		}},
		{"unplugged", "the chip is not there: nothing is sent of this sensor", func(w *wire) {
			w.probe = nil
			w.bus.Unplug(at)
		}},
		{stuckBus, "the chip holds the bus: nothing is sent of all sensors of the board that have a chip", func(w *wire) {
			w.probe = nil
			w.bus.Break(at, models.Stuck)
		}},
		{"garbled", "noise on the cable: what has a checksum is not sent, the rest as it came", func(w *wire) {
			const answers = 100 // more than a reading has
			w.bus.Garble(at, answers)
			if w.probe != nil {
				w.probe.Break(func(pad *[9]byte) { pad[0] ^= 0x40 })
			}
		}},
	}
}

const stuckBus = "stuck_bus"

func faultNamed(name string) func(*wire) {
	for _, f := range Faults() {
		if f.Name == name {
			return f.breaks
		}
	}
	return nil
}
