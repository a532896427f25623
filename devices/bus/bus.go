// Package bus opens the buses that devices are wired to: those of the Linux
// kernel by number or device file, and simulated ones as sim:NAME. It is the
// only package that imports periph's host drivers and go-gpiocdev, and knows no
// chip. Lines are opened by go-gpiocdev: periph's make an output low for a
// moment before it is high, and tell neither the times nor the loss of edges.
//
// A bus of the kernel is opened by itself when it is first needed, not looked
// for at start, so that an adapter may be plugged in later. The adapter must be
// able to do plain I²C transfers; SMBus controllers of PC chipsets are not.
package bus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/host/v3/sysfs"

	"holdfast/devices"
	"holdfast/devices/gpio"
)

const (
	simulated = "sim:"
	devFile   = "/dev/i2c-"
)

// Buses opens buses by name. The zero value has no simulated ones.
type Buses struct {
	// Simulated opens the bus behind sim:NAME; nil if there are none.
	Simulated func(name string) (i2c.BusCloser, error)
	// SimulatedSPI returns a select of the bus of sim:NAME; nil if there are none.
	SimulatedSPI func(name string, sel uint16) spi.PortCloser
	// SimulatedOneWire returns the 1-Wire bus of sim:NAME, SimulatedLines opens
	// the lines of the chips sim:NAME; nil if there are none.
	SimulatedOneWire func(name string) devices.OneWire
	SimulatedLines   gpio.Lines
	// Root is put before the directories of the kernel; "" outside tests.
	Root string
}

var _ devices.Buses = Buses{}

// ResolveI2C returns /dev/i2c-1 for 1, and sim:NAME and paths below /dev as
// they are.
func (b Buses) ResolveI2C(name string) (string, error) {
	if board, ok := strings.CutPrefix(name, simulated); ok {
		switch {
		case b.Simulated == nil:
			return "", errors.New("there are no simulated buses here")
		case board == "":
			return "", errors.New("a simulated bus needs a name; write it as in sim:board")
		}
		return name, nil
	}
	if n, err := strconv.ParseUint(name, 10, 16); err == nil {
		return devFile + strconv.FormatUint(n, 10), nil
	}
	if clean := filepath.Clean(name); strings.HasPrefix(clean, "/dev/") {
		return clean, nil
	}
	return "", fmt.Errorf("%q is not an I²C bus; write its number, its file such as /dev/i2c-1, or sim:NAME", name)
}

// I2C opens a bus by the name that ResolveI2C returned. A path may be a link
// to the device file, as udev makes them for adapters whose numbers change.
func (b Buses) I2C(name string) (i2c.BusCloser, error) {
	if board, ok := strings.CutPrefix(name, simulated); ok {
		if b.Simulated == nil {
			return nil, fmt.Errorf("open bus %s: there are no simulated buses here", name)
		}
		return b.Simulated(board)
	}
	file, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, explain(name, err, adviceI2C)
	}
	digits, ok := strings.CutPrefix(file, devFile)
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return nil, fmt.Errorf("open bus %s: it is not an I²C bus; those of this machine are called /dev/i2c-NUMBER", name)
	}
	// periph's error does not tell what is wrong, so find out before.
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, explain(name, err, adviceI2C)
	}
	_ = f.Close()
	bus, err := sysfs.NewI2C(n)
	if err != nil {
		return nil, fmt.Errorf("open bus %s: %w", name, err)
	}
	return bus, nil
}

// What to do about a file that is not there, and its group.
type advice struct{ absent, group string }

var (
	adviceI2C = advice{"enable I²C (on a Raspberry Pi with raspi-config), load the module i2c-dev, or plug the adapter in", "i2c"}
	adviceSPI = advice{"enable SPI (on a Raspberry Pi with raspi-config), or have the device tree give that select to spidev", "spi"}
)

func explain(name string, err error, a advice) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // the path is in the message already
	}
	what := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		what = "; " + a.absent
	case errors.Is(err, fs.ErrPermission):
		what = "; add the user that Holdfast runs as to the group of that file, mostly " + a.group
	}
	return fmt.Errorf("open bus %s: %w%s", name, err, what)
}
