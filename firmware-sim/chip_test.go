package sim

import (
	"math"
	"strings"
	"testing"
	"time"
)

// The steps and limits are those of the data sheets.
func TestATemperatureIsWhatTheChipOfTheBoardMakesOfIt(t *testing.T) {
	for _, c := range []struct {
		chip     string
		at, want float64
	}{
		{"tmp102", 21.37, 21.375}, {"tmp102", -25.01, -25}, {"tmp102", 500, 127.9375},
		{"lm75b", 21.37, 21.375}, {"lm75b", 21.2, 21.25}, {"lm75b", -0.1, -0.125},
		{"mcp9808", 21.37, 21.375}, {"mcp9808", -18.04, -18.0625}, {"mcp9808", 0, 0}, {"mcp9808", 500, 255.9375}, {"tmp102", -500, -128},
	} {
		if got := chipNamed(c.chip).read(c.at); got != c.want {
			t.Errorf("%s at %v: %v, want %v", c.chip, c.at, got, c.want)
		}
	}
}

func TestABoardWithAChipSendsItsSteps(t *testing.T) {
	plain := readings(t, upTo(sensor(t, "{kind: temperature, every: 1s, base: 4, noise: 2}"), time.Minute), "temperature")
	chip := readings(t, upTo(sensor(t, "{kind: temperature, chip: lm75b, every: 1s, base: 4, noise: 2}"), time.Minute), "temperature")
	if len(plain) != len(chip) || len(chip) < 50 {
		t.Fatalf("%d readings, %d with a chip", len(plain), len(chip))
	}
	for i, r := range chip {
		// Payloads have two decimals.
		got, was := r.Value.(float64), plain[i].Value.(float64)
		if step := got * 8; math.Abs(step-math.Round(step)) > 0.05 {
			t.Errorf("%v is no step of the chip", got)
		}
		if math.Abs(got-was) > 0.08 {
			t.Errorf("%v, and %v with a chip", was, got)
		}
	}
}

func TestAChipThatNobodyKnowsIsAMistake(t *testing.T) {
	_, err := Parse("s.yaml", []byte("boards:\n- name: a\n  area: b\n  sensors: [{kind: temperature, chip: tmp201}]\n"))
	if err == nil || !strings.Contains(err.Error(), `"tmp201": there are tmp102, lm75b, mcp9808`) {
		t.Errorf("%v", err)
	}
}
