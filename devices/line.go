package devices

import (
	"context"
	"time"

	"holdfast/devices/gpio"
	"holdfast/gateway/config"
)

// Line are the settings of every device at a GPIO line.
type Line struct {
	Chip string `config:"chip"` // gpiochip0, /dev/gpiochip0, its label or sim:NAME; any chip with a line of that name if absent
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

// Level returns 1 for true and 0 for false.
func Level(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// InputLine are the settings of every device that reads lines.
type InputLine struct {
	Pull      string          `config:"pull,oneof=up|down|none"` // as the line is, if absent
	ActiveLow bool            `config:"active_low"`
	Debounce  config.Duration `config:"debounce,max=10s"` // shorter changes are no edges
}

// Config returns how lines with the settings are opened.
func (set InputLine) Config(edges gpio.Edges) gpio.InputConfig {
	return gpio.InputConfig{Pull: gpio.Pull(set.Pull), ActiveLow: set.ActiveLow, Debounce: set.Debounce.Std(), Edges: edges}
}

// healthCheck is how often it is checked that the chip of an input is there: a
// chip that goes tells nobody.
const healthCheck = time.Second

// Watch opens lines and calls edges with what they tell, and with nothing every
// interval, until ctx ends or the chip has gone. begin gets the levels at the
// start. It counts what was lost in feed; edges learns of it too.
func Watch(ctx context.Context, feed *Feed, lines gpio.Lines, refs []gpio.Ref, c gpio.InputConfig, interval time.Duration,
	begin func(at time.Time, levels []bool) error, edges func(at time.Time, edges []gpio.Edge, lost uint64, in gpio.Inputs) error,
) error {
	queue := gpio.NewQueue()
	in, err := lines.Inputs(refs, c, queue.Push)
	if err != nil {
		return err
	}
	defer in.Close()
	levels, err := in.Levels()
	if err != nil {
		return err
	}
	feed.Online()
	if err := begin(time.Now(), levels); err != nil {
		return err
	}
	check := time.NewTicker(healthCheck)
	defer check.Stop()
	var tick <-chan time.Time
	if interval > 0 {
		t := time.NewTicker(interval)
		defer t.Stop()
		tick = t.C
	}
	for {
		due := false
		select {
		case <-ctx.Done():
		case <-queue.Wake():
		case <-tick:
			due = true
		case <-check.C:
			if _, err := in.Levels(); err != nil {
				return err
			}
			continue
		}
		seen, lost := queue.Take()
		feed.Lost(lost)
		if len(seen) > 0 || due || ctx.Err() != nil {
			if err := edges(time.Now(), seen, lost, in); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}
