package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time that is not negative, written as in "500ms",
// "1h30m", "7d" or "2w"; a day has 24 hours.
type Duration time.Duration

var durationUnits = map[string]time.Duration{
	"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "ms": time.Millisecond,
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

var (
	durationPart = regexp.MustCompile(`^([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([a-zµ]*)`)
	sizeForm     = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$`)
)

// ParseDuration reads a duration; the error says what was expected.
func ParseDuration(text string) (Duration, error) {
	if text == "0" {
		return 0, nil
	}
	var total float64
	var exact time.Duration
	for rest := text; ; {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil {
			return 0, fmt.Errorf("%q is not a duration; write one such as 500ms, 30s, 24h or 7d", text)
		}
		unit, ok := durationUnits[m[2]]
		switch {
		case m[2] == "" && len(rest) > len(m[0]):
			return 0, fmt.Errorf("%q is not a duration; write one such as 500ms, 30s, 24h or 7d", text)
		case m[2] == "":
			return 0, fmt.Errorf("the duration %q lacks a unit; write %ss for seconds, or use ms, m, h or d", text, text)
		case !ok:
			return 0, fmt.Errorf("%q has the unknown unit %q; use ms, s, m, h, d or w", text, m[2])
		}
		number, _ := strconv.ParseFloat(m[1], 64)
		if total += number * float64(unit); total >= math.MaxInt64 {
			return 0, fmt.Errorf("the duration %q is too long; the most is 292 years", text)
		}
		if whole, err := strconv.ParseInt(m[1], 10, 64); err == nil {
			exact += time.Duration(whole) * unit
		} else {
			exact += time.Duration(math.Round(number * float64(unit)))
		}
		if rest = rest[len(m[0]):]; rest == "" {
			return Duration(exact), nil
		}
	}
}

// UnmarshalText reads what [ParseDuration] reads.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String formats d so that it can be read again, without zero parts.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	if days := d / Duration(24*time.Hour); days > 0 {
		fmt.Fprintf(&b, "%dd", days)
		d %= Duration(24 * time.Hour)
	}
	if d != 0 {
		text := time.Duration(d).String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		b.WriteString(text)
	}
	return b.String()
}

// Size is a number of bytes that is not negative, written as in "64KiB",
// "1.5GiB", "1GB" or plainly "4096".
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1}, {"", 1},
}

// ParseSize reads a size; the error says what was expected.
func ParseSize(text string) (Size, error) {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is not a size; write one such as 64KiB, 256MiB or 1GB", text)
	}
	for _, unit := range sizeUnits {
		if unit.name != m[2] {
			continue
		}
		number, _ := strconv.ParseFloat(m[1], 64)
		if number*float64(unit.bytes) >= math.MaxInt64 {
			return 0, fmt.Errorf("the size %q is too large", text)
		}
		if whole, err := strconv.ParseInt(m[1], 10, 64); err == nil {
			return Size(whole * unit.bytes), nil
		}
		return Size(math.Round(number * float64(unit.bytes))), nil
	}
	hint := ""
	for _, unit := range sizeUnits {
		if strings.EqualFold(unit.name, m[2]) || strings.EqualFold(unit.name, m[2]+"iB") {
			hint = fmt.Sprintf(", did you mean %s%s?", m[1], unit.name)
			break
		}
	}
	if hint == "" {
		hint = "; use B, KiB, MiB, GiB, or kB, MB, GB"
	}
	return 0, fmt.Errorf("the size %q has an unknown unit%s", text, hint)
}

// UnmarshalText reads what [ParseSize] reads.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// String formats s in the largest binary unit that divides it, or else in the
// largest decimal one, so that it can be read again.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && unit.bytes > 1 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// Path is the name of a file or directory. Decode makes relative paths
// relative to the directory of the configuration file; "-" stays as it is.
type Path string

// Percent is a part of a whole, written as in "20%" or "0.5%": more than 0 and
// at most 100.
type Percent float64

var percentForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?%$`)

// UnmarshalText reads a percentage; the error says what was expected.
func (p *Percent) UnmarshalText(text []byte) error {
	m := percentForm.FindSubmatch(text)
	if m == nil {
		return fmt.Errorf("%q is not a share; write one such as 20%%", text)
	}
	number, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || number <= 0 || number > 100 {
		return fmt.Errorf("the share %q must be more than 0%% and at most 100%%", text)
	}
	*p = Percent(number)
	return nil
}

// Part returns p as a part of 1.
func (p Percent) Part() float64 { return float64(p) / 100 }

// String formats p so that it can be read again.
func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }
