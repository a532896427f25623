package devices

import (
	"holdfast/devices/gpio"
	"holdfast/gateway/config"
)

// Line are the settings of every device at a GPIO line.
type Line struct {
	Chip string `config:"chip"` // gpiochip0, /dev/gpiochip0 or sim:NAME; any chip with a line of that name if absent
	Line string `config:"line,required"`
}

// Line takes the line that the settings name for the device of the section; it
// is not opened yet. key is where the line stands.
func (w *Wiring) Line(s *config.Section, key string, set Line) (gpio.Ref, error) {
	ref, err := w.buses.ResolveLine(gpio.Ref{Chip: set.Chip, Line: set.Line})
	if err != nil {
		return ref, s.Errorf(key, "%v", err)
	}
	if other, taken := w.taken["line "+ref.String()]; taken {
		return ref, s.Errorf(key, "the line %v is %s already", ref, other)
	}
	w.taken["line "+ref.String()] = s.Name()
	return ref, nil
}

// Lines opens lines and pulse width outputs.
func (w *Wiring) Lines() gpio.Lines { return w.buses }
