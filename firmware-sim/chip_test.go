package sim

import (
	"math"
	"strings"
	"testing"
	"time"
)

// The steps and limits are those of the data sheets.
func TestAValueIsWhatTheChipOfTheBoardMakesOfIt(t *testing.T) {
	for _, c := range []struct {
		chip, kind       string
		at, want, within float64
	}{
		{"tmp102", "temperature", 21.37, 21.375, 0}, {"tmp102", "temperature", -25.01, -25, 0},
		{"tmp102", "temperature", 500, 127.9375, 0}, {"tmp102", "temperature", -500, -128, 0},
		{"lm75", "temperature", 21.37, 21.5, 0},
		{"lm75b", "temperature", 21.37, 21.375, 0}, {"lm75b", "temperature", 21.2, 21.25, 0}, {"lm75b", "temperature", -0.1, -0.125, 0},
		{"mcp9808", "temperature", 21.37, 21.375, 0}, {"mcp9808", "temperature", -18.04, -18.0625, 0},
		{"mcp9808", "temperature", 0, 0, 0}, {"mcp9808", "temperature", 500, 255.9375, 0},
		{"ds18b20", "temperature", -10.1, -10.125, 0},
		{"sht3x", "temperature", 21.37, 21.37, 0.002}, {"sht3x", "humidity", 45.5, 45.5, 0.001}, {"sht3x", "temperature", 500, 130, 0},
		{"sht4x", "temperature", -18, -18, 0.002}, {"sht4x", "humidity", 103, 100, 0},
		{"scd4x", "co2", 812.4, 812, 0}, {"scd4x", "temperature", 21.37, 21.37, 0.002}, {"scd4x", "humidity", 45.5, 45.5, 0.001},
		{"bme280", "temperature", 21.37, 21.37, 0.01}, {"bme280", "pressure", 99_000, 99_000, 2}, {"bme280", "humidity", 45.5, 45.5, 0.02},
		{"bmp280", "temperature", -18, -18, 0.01}, {"bmp280", "pressure", 101_325, 101_325, 2},
		{"bh1750", "illuminance", 300.2, 300, 0.01}, {"bh1750", "illuminance", 1e6, 54612.5, 0},
		{"ads1115", "tank_level", 47.3, 47.3, 0.005}, {"ads1115", "tank_level", 0, 0, 0.005},
		{"ina219", "voltage", 12.345, 12.344, 1e-9}, {"ina219", "current", -1.5, -1.5, 1e-9}, {"ina219", "current", 5, 3.2767, 1e-9},
		{"ina226", "voltage", 12.345, 12.345, 1e-9}, {"ina226", "current", 10.001, 10.00125, 1e-9},
		{"mcp23017", "door", 1, 1, 0}, {"mcp23017", "door", 0, 0, 0}, {"mcp23017", "motion", 1, 1, 0},
	} {
		got, ok := chipNamed(c.chip).sense(c.kind, c.at, monday, "")
		if !ok || !(math.Abs(got-c.want) <= c.within) {
			t.Errorf("%s as %s at %v: %v, %v; want %v ± %v", c.chip, c.kind, c.at, got, ok, c.want, c.within)
		}
	}
}

func TestEveryChipCanBeASensor(t *testing.T) {
	for _, c := range chips() {
		for _, kind := range c.kinds {
			yaml := "{kind: " + kind + ", chip: " + c.name + ", every: 10s"
			if kind == "door" || kind == "motion" {
				yaml += ", active: {every: 20s, for: 5s}, cycle: 0"
			}
			k, _ := kindNamed(kind)
			if n := len(readings(t, upTo(sensor(t, yaml+"}"), 2*time.Minute), k.Metric)); n < 10 {
				t.Errorf("%s: %d readings in two minutes", yaml, n)
			}
		}
	}
}

// What a fault lets through is what a board would send that trusts its chip.
func TestAFaultOfAChipIsNoReadingOrAWrongOne(t *testing.T) {
	const window = "every: 1m, for: 20s"
	for _, c := range []struct {
		fault, chip string
		sends       bool
	}{
		{"nack", "sht3x", false}, {"nack", "tmp102", false}, {"nack", "ds18b20", false}, {"nack", "bme280", false},
		{"unplugged", "mcp9808", false}, {"unplugged", "ds18b20", false}, {"stuck_bus", "lm75", false}, {"stuck_bus", "ds18b20", false},
		{"garbled", "sht3x", false}, {"garbled", "sht4x", false}, {"garbled", "scd4x", false}, {"garbled", "ds18b20", false},
		{"garbled", "tmp102", true}, {"garbled", "lm75", true},
	} {
		plain := readings(t, upTo(sensor(t, "{kind: temperature, chip: "+c.chip+", every: 1s}"), 3*time.Minute), "temperature")
		faulty := readings(t, upTo(sensor(t, "{kind: temperature, chip: "+c.chip+", every: 1s, fault: {is: "+c.fault+", "+window+"}}"), 3*time.Minute), "temperature")
		missing, wrong := len(plain)-len(faulty), 0
		for i, r := range faulty {
			if r.Seq != i+1 {
				t.Errorf("%s, %s: reading %d has the number %d", c.fault, c.chip, i+1, r.Seq)
			}
			if math.Abs(r.Value.(float64)-21) > 10 {
				wrong++
			}
		}
		if c.sends && (missing != 0 || wrong < 55 || wrong > 65) || !c.sends && (missing < 55 || missing > 65 || wrong != 0) {
			t.Errorf("%s, %s: of 3 × 20 readings %d are missing, %d wrong", c.fault, c.chip, missing, wrong)
		}
	}
}

func TestAChipThatHoldsTheBusSilencesTheOthersOfItsBoard(t *testing.T) {
	s := scenario(t, `
boards:
- name: a
  area: x
  sensors:
  - {kind: temperature, chip: tmp102, every: 1s, fault: {is: stuck_bus, every: 1m, for: 20s}}
  - {kind: humidity, chip: sht3x, every: 1s}
  - {kind: vibration, every: 1s}
- {name: b, area: x, sensors: [{kind: humidity, chip: sht3x, every: 1s}]}`)
	got := map[string]int{}
	for m := range s.Fleet(1, monday, 0).All() {
		if m.At.After(monday.Add(time.Minute)) {
			break
		}
		got[strings.TrimPrefix(m.Topic, "plant/x/")]++
	}
	for metric, want := range map[string]int{"a/temperature": 40, "a/humidity": 40, "a/vibration": 60, "b/humidity": 60} {
		if n := got[metric]; n < want-3 || n > want+1 {
			t.Errorf("%s: %d readings, want about %d", metric, n, want)
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

func TestMistakesWithChipsAreShown(t *testing.T) {
	for sensor, want := range map[string]string{
		"{kind: temperature, chip: tmp201}":                                           `chip: "tmp201": for a temperature there are tmp102, lm75, lm75b, mcp9808, ds18b20, sht3x, sht4x, scd4x, bme280, bmp280`,
		"{kind: humidity, chip: tmp102}":                                              `chip: "tmp102": for a humidity there are sht3x, sht4x, scd4x, bme280`,
		"{kind: vibration, chip: tmp102}":                                             "chip: a vibration has no such setting",
		"{kind: door, fault: {is: nack, every: 1m, for: 1s}}":                         "fault: is one of a chip: say which it is with chip, one of mcp23017",
		"{kind: door, chip: mcp23017, fault: {is: broken, every: 1m, for: 1s}}":       `is: "broken": there are nack, unplugged, stuck_bus, garbled`,
		"{kind: humidity, chip: sht3x, fault: {is: nack, every: 1m, for: 1m}}":        "for: 1m0s: must be shorter than every, 1m0s",
		"{kind: humidity, chip: sht3x, fault: {is: nack, every: 1m, for: 1s, at: 1}}": `unknown key "at"`,
	} {
		_, err := Parse("s.yaml", []byte("boards:\n- name: a\n  area: b\n  sensors: ["+sensor+"]\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", sensor, err, want)
		}
	}
}
