package bus

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/warthog618/go-gpiocdev"

	"holdfast/devices"
)

// Places returns the I²C and 1-Wire buses, SPI ports and GPIO chips that the kernel
// knows now.
func (b Buses) Places() (p devices.Places) {
	files, _ := filepath.Glob(b.root(devFile + "*")) // the pattern is right
	for _, f := range files {
		if n, err := strconv.Atoi(strings.TrimPrefix(f, b.root(devFile))); err == nil {
			p.I2C = append(p.I2C, devFile+strconv.Itoa(n))
		}
	}
	p.SPI, _ = filepath.Glob(b.root(spiFile + "*"))
	for i, f := range p.SPI {
		p.SPI[i] = strings.TrimPrefix(f, strings.TrimSuffix(b.root(spiFile), spiFile))
	}
	if _, err := os.Stat(b.root(w1)); err == nil {
		p.OneWire = []string{"w1"}
	}
	if b.Root != "" {
		return p
	}
	for _, name := range gpiocdev.Chips() {
		if c, ok := chipInfo(name); ok {
			p.Chips = append(p.Chips, c)
		}
	}
	return p
}

func chipInfo(name string) (info devices.ChipInfo, ok bool) {
	c, err := gpiocdev.NewChip(name)
	if err != nil {
		return info, false
	}
	defer func() { _ = c.Close() }() // nothing was written
	info = devices.ChipInfo{Name: name, Label: c.Label}
	for n := range c.Lines() {
		l, err := c.LineInfo(n)
		if err != nil {
			return info, false
		}
		info.Lines = append(info.Lines, devices.LineInfo{Number: n, Name: l.Name, User: l.Consumer})
	}
	return info, true
}
