package bus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/devices/gpio"
)

func TestLinesAreNamedInOneWay(t *testing.T) {
	for _, c := range []struct {
		chip, line string
		want, err  string
	}{
		{"gpiochip0", "17", "gpiochip0/17", ""},
		{"/dev/gpiochip0", "17", "gpiochip0/17", ""},
		{"0", "17", "gpiochip0/17", ""},
		{"", "GPIO17", "GPIO17", ""},
		{"", "17", "", "needs a chip"},
		{"gpiochip0", "", "", "needs its number or its name"},
		{"../x", "1", "", "is not a GPIO chip"},
		{"sim:x", "1", "", "no simulated lines"},
	} {
		got, err := Buses{}.ResolveLine(gpio.Ref{Chip: c.chip, Line: c.line})
		switch {
		case c.err == "" && (err != nil || got.String() != c.want):
			t.Errorf("%s %s: %v, %v", c.chip, c.line, got, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s %s: %v, want %s", c.chip, c.line, err, c.err)
		}
	}
}

func TestAMissingChipIsExplained(t *testing.T) {
	_, err := Buses{}.Output(gpio.Ref{Chip: "gpiochip99", Line: "1"}, gpio.OutputConfig{})
	if err == nil || !strings.Contains(err.Error(), "open line gpiochip99/1") {
		t.Errorf("%v", err)
	}
	if _, err := (Buses{}).Inputs([]gpio.Ref{{Line: "NOWHERE"}}, gpio.InputConfig{}, nil); err == nil || !strings.Contains(err.Error(), "no chip has a line of that name") {
		t.Errorf("%v", err)
	}
}

// The kernel refuses a pulse that is longer than its period.
func TestThePulseNeverOutgrowsItsPeriod(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "sys/class/pwm/pwmchip0/pwm1")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	p, err := Buses{Root: root}.PWM("pwmchip0", 1)
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	for _, c := range []struct {
		period time.Duration
		duty   float64
		want   string
	}{{time.Millisecond, 0.25, "1000000 250000 1"}, {time.Millisecond, 1, "1000000 1000000 1"}, {20 * time.Microsecond, 0.5, "20000 10000 1"}} {
		if err := p.Set(c.period, c.duty); err != nil {
			t.Fatal(err)
		}
		if got := read("period") + " " + read("duty_cycle") + " " + read("enable"); got != c.want {
			t.Errorf("%v of %v: %s, want %s", c.duty, c.period, got, c.want)
		}
	}
	if err := p.Close(); err != nil || read("enable") != "0" {
		t.Errorf("close: %v, enable %s", err, read("enable"))
	}
	if _, err := (Buses{Root: root}).PWM("pwmchip7", 0); err == nil || !strings.Contains(err.Error(), "overlay") {
		t.Errorf("%v", err)
	}
}
