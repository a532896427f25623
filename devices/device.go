package devices

import (
	"context"
	"math"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"

	"holdfast/devices/gpio"
	"holdfast/gateway/config"
)

// Driver is a kind of device that the configuration can name. A new driver is
// one folder with such a value, and one line in the list of drivers.
type Driver struct {
	Name   string // as in driver: NAME
	Doc    string // one sentence for people choosing a driver: what is measured, over what
	Sample string // settings of one device in YAML that pass check, without the driver key

	// Addresses are those at which the chip can be on an I²C bus, for people
	// who look at a scan.
	Addresses []Address

	// New reads the settings of one device from s and reports every mistake
	// in them with its position. It touches no hardware: what it gets from
	// the wiring opens when the source runs.
	New func(s *config.Section, w *Wiring) (Source, error)
}

// Source is a device at work. Run finds the device, sets it up and delivers
// to feed what it measures or sees, until ctx ends, when it returns soon. An
// error means that the device failed: Run is called again after a pause, and
// sets the device up anew. Run is called by one goroutine at a time.
//
// Sensors that are read every so often need no Source of their own, [Poll]
// makes one.
type Source interface {
	Run(ctx context.Context, feed *Feed) error
}

// Sensor is a device that measures when it is asked to. Read returns what it
// has measured, rounded to what the device can resolve, or an error if the
// device did not answer as it should; it returns soon after ctx ends.
type Sensor interface {
	Read(ctx context.Context) ([]Reading, error)
}

// Reading is one measured value.
type Reading struct {
	Name  string  // last part of the topic: temperature, pressure, channel/1; not status
	Value float64 // a finite number
	Unit  string  // symbol from the SenML registry (RFC 8428, section 12.1), such as Cel, Pa, %RH; "" for none
}

// Quantity is something that a device measures.
type Quantity struct {
	Name, Unit string // as in its readings
	// Low and High are the ends of what the device can measure, from the
	// data sheet: readings beyond them are flagged. Both 0 means no limits.
	Low, High float64
	// Edges says that each change of it is told at once: it is the level of an
	// input. Immediate rules may act on it.
	Edges bool
}

// Measurer is a [Source] that says what it measures, so that the settings of
// single readings can be checked before there is one.
type Measurer interface {
	Quantities() []Quantity
}

// Actuator is a [Source] that can be told something.
type Actuator interface {
	// Outputs returns what can be told, by name; the only output of a device
	// has the name "".
	Outputs() map[string]Output
}

// Output is something that can be driven.
type Output interface {
	// Parse reads what a command wants; the error tells what can be.
	Parse(o *Order) error
	// Do carries an order out and returns once that is done, or why it was
	// not. It ends when ctx does: then a newer order takes the place of this
	// one. Orders come one at a time.
	Do(ctx context.Context, o Order) error
}

// Buses opens what devices are wired to.
type Buses interface {
	// ResolveI2C checks a bus as the configuration names it, without touching
	// it, and returns the name that all spellings of it share.
	ResolveI2C(name string) (string, error)
	// I2C opens the bus with a resolved name. The error says what to do.
	I2C(name string) (i2c.BusCloser, error)
	// ResolveSPI checks a select of an SPI bus as the configuration names it,
	// without touching it, and returns the name that all spellings of it share,
	// and the name of the bus that it shares with other selects.
	ResolveSPI(name string) (bus, port string, err error)
	// SPI opens the port with a resolved name. The error says what to do.
	SPI(port string) (spi.PortCloser, error)
	// OneWire returns the 1-Wire bus that the configuration names, without
	// touching it.
	OneWire(name string) (OneWire, error)
	// Places returns the buses that this machine has.
	Places() Places
	gpio.Lines
}

// State is what is known of a device.
type State string

// The states of a device.
const (
	Starting State = "starting" // not yet reached, nor given up
	Online   State = "online"
	Offline  State = "offline" // failed twice in a row; tried again with pauses
)

// Status is how a device does.
type Status struct {
	Name, Driver string
	Bus          string // or the chip of its lines, as far as the configuration says
	Topic        string // what its topics begin with
	State        State
	Since        time.Time // when it came to be so
	LastRead     time.Time // zero if there was no reading yet
	Err          string    // last failure, kept after the device has recovered; "" if there was none
	ErrAt        time.Time

	Failures   uint64 // times that the device failed
	Sampled    uint64 // readings that the device gave
	Suppressed uint64 // readings not published, since they had hardly changed or went into an aggregate
	OutOfRange uint64 // readings beyond what is physically possible
	Lost       uint64 // edges that nobody took in time
	Captured   uint64 // readings on disk
	Missed     uint64 // readings that the log did not take, and that a newer one replaced
	Overruns   uint64 // readings that were due while an earlier one still went on
}

// Round gives v with so many decimals, as many as the device resolves.
func Round(v float64, decimals int) float64 {
	p := math.Pow10(decimals)
	return math.Round(v*p) / p
}
