//go:build vm

package hardware

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// simulators is where the kernel's module gpio-sim is told what to make
// (Documentation/admin-guide/gpio/gpio-sim.rst).
const simulators = "/sys/kernel/config/gpio-sim"

// Chip is a chip with lines that gpio-sim makes. It tells edges at once and
// honours pulls.
type Chip struct {
	// Name is gpiochipN while the chip is plugged in.
	Name string

	plugged    bool
	dir, label string
	lines      []string
	world      string // where levels are put on lines
}

// NewChip returns a chip that is not plugged in, with lines of the given names;
// "" for one without.
func NewChip(label string, lines ...string) *Chip {
	return &Chip{dir: filepath.Join(simulators, label), label: label, lines: lines}
}

// CanChips reports whether the machine has the module that makes chips.
func CanChips() bool {
	_, err := os.Stat(simulators)
	return err == nil
}

// Plug makes the chip.
func (c *Chip) Plug() error {
	c.plugged = true
	bank := filepath.Join(c.dir, "bank0")
	if err := os.MkdirAll(bank, 0o755); err != nil {
		return err
	}
	write := func(file string, value any) error { return os.WriteFile(file, fmt.Append(nil, value), 0) }
	err := errors.Join(
		write(filepath.Join(bank, "num_lines"), len(c.lines)),
		write(filepath.Join(bank, "label"), c.label),
	)
	for i, name := range c.lines {
		if name != "" {
			line := filepath.Join(bank, fmt.Sprintf("line%d", i))
			err = errors.Join(err, os.Mkdir(line, 0o755), write(filepath.Join(line, "name"), name))
		}
	}
	if err = errors.Join(err, write(filepath.Join(c.dir, "live"), 1)); err != nil {
		return err
	}
	device, err := os.ReadFile(filepath.Join(c.dir, "dev_name"))
	if err != nil {
		return err
	}
	name, err := os.ReadFile(filepath.Join(bank, "chip_name"))
	if err != nil {
		return err
	}
	c.Name = strings.TrimSpace(string(name))
	c.world = filepath.Join("/sys/devices/platform", strings.TrimSpace(string(device)), c.Name)
	return await("/dev/"+c.Name, func() bool {
		_, err := os.Stat("/dev/" + c.Name)
		return err == nil
	})
}

// Unplug takes the chip away, whoever uses it.
func (c *Chip) Unplug() error {
	if !c.plugged {
		return nil
	}
	c.plugged = false
	if err := os.WriteFile(filepath.Join(c.dir, "live"), []byte("0"), 0); err != nil {
		return err
	}
	lines, err := filepath.Glob(filepath.Join(c.dir, "bank0", "line*"))
	for _, dir := range append(lines, filepath.Join(c.dir, "bank0"), c.dir) {
		err = errors.Join(err, os.Remove(dir))
	}
	return err
}

func (c *Chip) attribute(line int, name string) string {
	return filepath.Join(c.world, fmt.Sprintf("sim_gpio%d", line), name)
}

// Set puts a level on a line from outside.
func (c *Chip) Set(line int, high bool) error {
	pull := "pull-down"
	if high {
		pull = "pull-up"
	}
	return os.WriteFile(c.attribute(line, "pull"), []byte(pull), 0)
}

// High returns whether a line carries a high level.
func (c *Chip) High(line int) (bool, error) {
	level, err := os.ReadFile(c.attribute(line, "value"))
	return strings.TrimSpace(string(level)) == "1", err
}
