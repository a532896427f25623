package bus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"periph.io/x/conn/v3/spi"
	"periph.io/x/host/v3/sysfs"
)

const spiFile = "/dev/spidev"

var (
	spiName = regexp.MustCompile(`^(?i:spi|/dev/spidev)([0-9]{1,5})\.([0-9]{1,3})$`)
	simSPI  = regexp.MustCompile(`^(sim:[^/]+)/spi([0-9]{1,3})$`)
)

// ResolveSPI returns /dev/spidev0.1 for spi0.1, and sim:NAME/spi1 and paths below
// /dev as they are. Selects of one bus share a goroutine, a path that is a link has
// one of its own.
func (b Buses) ResolveSPI(name string) (bus, port string, err error) {
	if m := simSPI.FindStringSubmatch(name); m != nil {
		if b.SimulatedSPI == nil {
			return "", "", errors.New("there are no simulated buses here")
		}
		return m[1] + "/spi", name, nil
	}
	if m := spiName.FindStringSubmatch(name); m != nil {
		return spiFile + m[1], spiFile + m[1] + "." + m[2], nil
	}
	if clean := filepath.Clean(name); strings.HasPrefix(clean, "/dev/") {
		return clean, clean, nil
	}
	return "", "", fmt.Errorf("%q is not a select of an SPI bus; write it as spi0.1 or /dev/spidev0.1 for select 1 of bus 0, or sim:NAME/spi1", name)
}

// SPI opens a port by the name that ResolveSPI returned.
func (b Buses) SPI(port string) (spi.PortCloser, error) {
	if m := simSPI.FindStringSubmatch(port); m != nil {
		sel, _ := strconv.Atoi(m[2]) // three digits
		return b.SimulatedSPI(strings.TrimPrefix(m[1], simulated), uint16(sel)), nil
	}
	file, err := filepath.EvalSymlinks(port)
	if err != nil {
		return nil, explain(port, err, adviceSPI)
	}
	m := spiName.FindStringSubmatch(file)
	if m == nil {
		return nil, fmt.Errorf("open bus %s: it is not an SPI port; those of this machine are called /dev/spidevBUS.SELECT", port)
	}
	// periph's error does not tell what is wrong, so find out before.
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, explain(port, err, adviceSPI)
	}
	_ = f.Close()
	bus, _ := strconv.Atoi(m[1])
	sel, _ := strconv.Atoi(m[2])
	p, err := sysfs.NewSPI(bus, sel)
	if err != nil {
		return nil, fmt.Errorf("open bus %s: %w", port, err)
	}
	return p, nil
}
