package bus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/warthog618/go-gpiocdev"
	"golang.org/x/sys/unix"

	"holdfast/devices/gpio"
)

// consumer is the name by which others see who has a line.
const consumer = "holdfast"

// edgeBuffer is how many edges the kernel keeps for a request.
const edgeBuffer = 1024

// ResolveLine checks the form of a reference. Whether the line exists shows
// when it is opened: its chip may be plugged in later.
func (b Buses) ResolveLine(r gpio.Ref) (gpio.Ref, error) {
	switch {
	case strings.HasPrefix(r.Chip, simulated):
		if b.SimulatedLines == nil {
			return r, errors.New("there are no simulated lines here")
		}
		return b.SimulatedLines.ResolveLine(r)
	case r.Line == "":
		return r, errors.New("a line needs its number or its name")
	}
	_, err := strconv.ParseUint(r.Line, 10, 16)
	if r.Chip == "" {
		if err == nil {
			return r, fmt.Errorf("the line %s needs a chip, as in chip: gpiochip0", r.Line)
		}
		return r, nil
	}
	if n, err := strconv.ParseUint(r.Chip, 10, 16); err == nil {
		r.Chip = fmt.Sprintf("gpiochip%d", n)
	}
	r.Chip = strings.TrimPrefix(filepath.Clean(r.Chip), "/dev/")
	if strings.Contains(r.Chip, "..") {
		return r, fmt.Errorf("%q is not a GPIO chip; write it as in gpiochip0", r.Chip)
	}
	return r, nil
}

// find returns the chip and the number of a line.
func find(r gpio.Ref) (chip string, offset int, err error) {
	if r.Chip == "" {
		if chip, offset, err = gpiocdev.FindLine(r.Line); err != nil {
			return "", 0, fmt.Errorf("open line %v: no chip has a line of that name; name its chip and its number", r)
		}
		return chip, offset, nil
	}
	if chip, err = findChip(r.Chip); err != nil {
		return "", 0, explainLine(r, err)
	}
	if n, err := strconv.Atoi(r.Line); err == nil {
		return chip, n, nil
	}
	c, err := gpiocdev.NewChip(chip)
	if err != nil {
		return "", 0, explainLine(r, err)
	}
	defer func() { _ = c.Close() }() // nothing was written
	if offset, err = c.FindLine(r.Line); err != nil {
		return "", 0, fmt.Errorf("open line %v: the chip has no line of that name", r)
	}
	return chip, offset, nil
}

// findChip returns the chip with a file or a label of that name. A chip that was
// unplugged while lines of it were in use comes back with another number, but
// with the same label.
func findChip(name string) (chip string, err error) {
	if _, err := os.Stat("/dev/" + name); err == nil {
		return name, nil
	}
	for _, file := range gpiocdev.Chips() {
		c, err := gpiocdev.NewChip(file)
		if err != nil {
			continue // it is going just now
		}
		label := c.Label
		_ = c.Close() // nothing was written
		switch {
		case label != name:
		case chip != "":
			return "", fmt.Errorf("%s and %s have that label", chip, file)
		default:
			chip = file
		}
	}
	if chip == "" {
		return "", unix.ENOENT
	}
	return chip, nil
}

func explainLine(r gpio.Ref, err error) error {
	advice := ""
	switch {
	case errors.Is(err, unix.EBUSY):
		advice = "; another program or a driver of the kernel has the line, gpioinfo tells which"
	case errors.Is(err, unix.ENOENT):
		advice = "; there is no such chip, holdfast devices scan shows those there are"
	case errors.Is(err, unix.EACCES):
		advice = "; add the user that Holdfast runs as to the group of that file, mostly gpio"
	}
	return fmt.Errorf("open line %v: %w%s", r, err, advice)
}

// Inputs opens lines of one chip by the kernel's character device.
func (b Buses) Inputs(refs []gpio.Ref, c gpio.InputConfig, edge func(gpio.Edge)) (gpio.Inputs, error) {
	if strings.HasPrefix(refs[0].Chip, simulated) {
		return b.SimulatedLines.Inputs(refs, c, edge)
	}
	var chip string
	index := map[int]int{}
	var offsets []int
	for i, r := range refs {
		at, offset, err := find(r)
		if err != nil {
			return nil, err
		}
		if i > 0 && at != chip {
			return nil, fmt.Errorf("open line %v: lines that are read together must be of one chip", r)
		}
		chip, index[offset] = at, i
		offsets = append(offsets, offset)
	}
	o := []gpiocdev.LineReqOption{gpiocdev.AsInput, gpiocdev.WithConsumer(consumer)}
	switch c.Pull {
	case gpio.Up:
		o = append(o, gpiocdev.WithPullUp)
	case gpio.Down:
		o = append(o, gpiocdev.WithPullDown)
	case gpio.None:
		o = append(o, gpiocdev.WithBiasDisabled)
	}
	if c.ActiveLow {
		o = append(o, gpiocdev.AsActiveLow)
	}
	in, err := request(chip, offsets, o, c, func(e gpiocdev.LineEvent) {
		edge(gpio.Edge{
			Line: index[e.Offset], Rising: e.Type == gpiocdev.LineEventRisingEdge,
			At: wall(e.Timestamp), Stamp: e.Timestamp, Number: e.Seqno,
		})
	})
	if c.Debounce > 0 && errors.Is(err, unix.EINVAL) {
		// The kernel cannot where interrupts come from a thread, as those of
		// expanders and USB adapters do.
		d := newDebouncer(c, len(refs), edge)
		c.Debounce, c.Edges = 0, gpio.Both
		in, err = request(chip, offsets, o, c, func(e gpiocdev.LineEvent) {
			d.change(index[e.Offset], e.Type == gpiocdev.LineEventRisingEdge, e.Timestamp, e.Seqno)
		})
		if err == nil {
			return d.begin(in)
		}
	}
	if err != nil {
		return nil, explainLine(refs[0], err)
	}
	return in, nil
}

// request asks the kernel for lines, as o says and with those parts of c that a
// kernel may refuse.
func request(chip string, offsets []int, o []gpiocdev.LineReqOption, c gpio.InputConfig, event gpiocdev.EventHandler) (*inputs, error) {
	o = slices.Clip(o)
	if c.Debounce > 0 {
		o = append(o, gpiocdev.WithDebounce(c.Debounce))
	}
	if c.Edges != "" {
		o = append(o, gpiocdev.WithEventBufferSize(edgeBuffer), gpiocdev.WithEventHandler(event))
	}
	switch c.Edges {
	case gpio.Both:
		o = append(o, gpiocdev.WithBothEdges)
	case gpio.Rising:
		o = append(o, gpiocdev.WithRisingEdge)
	case gpio.Falling:
		o = append(o, gpiocdev.WithFallingEdge)
	}
	lines, err := gpiocdev.RequestLines(chip, offsets, o...)
	if err != nil {
		return nil, err
	}
	return &inputs{lines, len(offsets)}, nil
}

// wall turns the kernel's monotonic time of an edge into the time of day.
func wall(stamp time.Duration) time.Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return time.Now()
	}
	return time.Now().Add(stamp - time.Duration(ts.Nano()))
}

type inputs struct {
	lines *gpiocdev.Lines
	n     int
}

func (in *inputs) Levels() ([]bool, error) {
	values := make([]int, in.n)
	if err := in.lines.Values(values); err != nil {
		return nil, lost(err)
	}
	levels := make([]bool, in.n)
	for i, v := range values {
		levels[i] = v != 0
	}
	return levels, nil
}

func (in *inputs) Close() error { return in.lines.Close() }

func lost(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%w: %w", gpio.ErrLost, err)
	}
	return err
}

// Output opens a line as an output; it has its initial level at once, since
// the kernel is told both together.
func (b Buses) Output(r gpio.Ref, c gpio.OutputConfig) (gpio.Output, error) {
	if strings.HasPrefix(r.Chip, simulated) {
		return b.SimulatedLines.Output(r, c)
	}
	chip, offset, err := find(r)
	if err != nil {
		return nil, err
	}
	o := []gpiocdev.LineReqOption{gpiocdev.AsOutput(number(c.Initial)), gpiocdev.WithConsumer(consumer)}
	if c.ActiveLow {
		o = append(o, gpiocdev.AsActiveLow)
	}
	switch c.Drive {
	case gpio.OpenDrain:
		o = append(o, gpiocdev.AsOpenDrain)
	case gpio.OpenSource:
		o = append(o, gpiocdev.AsOpenSource)
	}
	line, err := gpiocdev.RequestLine(chip, offset, o...)
	if err != nil {
		return nil, explainLine(r, err)
	}
	return output{line}, nil
}

func number(level bool) int {
	if level {
		return 1
	}
	return 0
}

type output struct{ line *gpiocdev.Line }

func (o output) Set(level bool) error { return lost(o.line.SetValue(number(level))) }
func (o output) Close() error         { return o.line.Close() }

// Check reads the line for what that tells of the chip. The level does not
// matter, and some chips cannot read an output.
func (o output) Check() error {
	if _, err := o.line.Value(); errors.Is(err, unix.ENODEV) {
		return lost(err)
	}
	return nil
}

// PWM opens a channel of the kernel's pulse width chips.
func (b Buses) PWM(chip string, channel int) (gpio.PWM, error) {
	if strings.HasPrefix(chip, simulated) {
		if b.SimulatedLines == nil {
			return nil, errors.New("there are no simulated lines here")
		}
		return b.SimulatedLines.PWM(chip, channel)
	}
	dir := filepath.Join(b.root("/sys/class/pwm"), filepath.Base(chip))
	p := pwm{filepath.Join(dir, fmt.Sprintf("pwm%d", channel))}
	if _, err := os.Stat(p.dir); err != nil {
		if err := os.WriteFile(filepath.Join(dir, "export"), []byte(strconv.Itoa(channel)), 0o200); err != nil {
			return nil, fmt.Errorf("open channel %d of %s: %w; is the overlay for PWM loaded?", channel, chip, err)
		}
	}
	return p, nil
}

type pwm struct{ dir string }

func (p pwm) put(name string, v int64) error {
	return os.WriteFile(filepath.Join(p.dir, name), strconv.AppendInt(nil, v, 10), 0o600)
}

// Set changes the period only while the pulse fits both the old and the new
// one: the kernel refuses a pulse that is longer than its period.
func (p pwm) Set(period time.Duration, duty float64) error {
	steps := []struct {
		name  string
		value int64
	}{{"duty_cycle", 0}, {"period", period.Nanoseconds()}, {"duty_cycle", int64(duty * float64(period))}, {"enable", 1}}
	if b, err := os.ReadFile(filepath.Join(p.dir, "period")); err == nil && strings.TrimSpace(string(b)) == strconv.FormatInt(period.Nanoseconds(), 10) {
		steps = steps[2:] // no gap where only the share changes
	}
	for _, s := range steps {
		if err := p.put(s.name, s.value); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	return nil
}

func (p pwm) Close() error { return p.put("enable", 0) }
