package sim

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// The worked example of the BMP280's data sheet (BST-BMP280-DS001 revision
// 1.23, section 3.12, page 23); it prints 100653.27 Pa, from rounded steps.
func TestTheModelComputesAsTheDataSheetDoes(t *testing.T) {
	celsius, fine := ExampleTrim.temperature(519888)
	if math.Abs(celsius-25.08) > 0.005 || math.Abs(fine-128422) > 1 {
		t.Errorf("temperature %v °C, fine %v", celsius, fine)
	}
	if p := ExampleTrim.pressure(415148, fine); math.Abs(p-100653.27) > 0.1 {
		t.Errorf("pressure %v Pa", p)
	}
}

func get(t *testing.T, b *Bus, reg byte, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if err := b.Tx(0x76, []byte{reg}, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func set(t *testing.T, b *Bus, pairs ...byte) {
	t.Helper()
	if err := b.Tx(0x76, pairs, nil); err != nil {
		t.Fatal(err)
	}
}

func rawHumidity(t *testing.T, b *Bus) int {
	p := get(t, b, regPressure+6, 2)
	return int(p[0])<<8 | int(p[1])
}

func TestAForcedMeasurementTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(Boards).Bus("board")
		set(t, b, regCtrlHum, 1, regCtrlMeas, 1<<5|1<<2|modeForced) // 1 + 2 + 2.5 + 2.5 ms
		time.Sleep(7900 * time.Microsecond)
		if status, h := get(t, b, regStatus, 1)[0], rawHumidity(t, b); status != 8 || h != skipped16 {
			t.Errorf("before: status %#x, humidity %#x", status, h)
		}
		time.Sleep(100 * time.Microsecond)
		if status, h := get(t, b, regStatus, 1)[0], rawHumidity(t, b); status != 0 || h == skipped16 {
			t.Errorf("after: status %#x, humidity %#x", status, h)
		}
		if mode := get(t, b, regCtrlMeas, 1)[0] & 3; mode != modeSleep {
			t.Errorf("it did not go to sleep, mode %d", mode)
		}
	})
}

func TestNormalModeMeasuresAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := NewBus("b")
		b.Plug(0x76, NewBME280(func(at time.Time) Climate { // warmer by 1 °C each second
			return Climate{Temperature: at.Sub(start).Seconds(), Pressure: 1e5, Humidity: 50}
		}))
		set(t, b, regConfig, 4<<5, regCtrlHum, 1, regCtrlMeas, 1<<5|1<<2|modeNormal) // 8 ms, then 500 ms standby
		var seen []float64
		for range 3 {
			time.Sleep(508 * time.Millisecond)
			p := get(t, b, regPressure, 8)
			celsius, _ := ExampleTrim.temperature(uint32(p[3])<<12 | uint32(p[4])<<4 | uint32(p[5])>>4)
			seen = append(seen, celsius)
		}
		for i, want := range []float64{0.008, 0.516, 1.024} {
			if math.Abs(seen[i]-want) > 0.01 {
				t.Errorf("measured %v", seen)
			}
		}
		set(t, b, regConfig, 0)
		if got := get(t, b, regConfig, 1)[0]; got != 4<<5 {
			t.Errorf("config changed in normal mode to %#x", got)
		}
	})
}

func TestHumidityIsSkippedUntilItsControlIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(Boards).Bus("board")
		measure := func() int {
			set(t, b, regCtrlMeas, 1<<5|1<<2|modeForced)
			time.Sleep(20 * time.Millisecond)
			return rawHumidity(t, b)
		}
		if h := measure(); h != skipped16 {
			t.Errorf("humidity %#x", h)
		}
		set(t, b, regCtrlHum, 1)
		if h := measure(); h == skipped16 {
			t.Error("humidity was skipped")
		}
		set(t, b, regReset, 0xb6)
		if h := measure(); h != skipped16 {
			t.Errorf("a reset kept the setting, humidity %#x", h)
		}
	})
}

func TestFaultsComeOnOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(Boards).Bus("board")
		id := func() error { return b.Tx(0x76, []byte{regID}, make([]byte, 1)) }

		b.Break(0x76, Times(2, NACK))
		for i, want := range []error{ErrNACK, ErrNACK, nil} {
			if err := id(); !errors.Is(err, want) {
				t.Errorf("transfer %d: %v, want %v", i, err, want)
			}
		}
		b.Break(0x76, Stall(3*time.Second))
		began := time.Now()
		if err := id(); !errors.Is(err, ErrStalled) || time.Since(began) != 3*time.Second {
			t.Errorf("stall: %v after %v", err, time.Since(began))
		}
		if err := b.Tx(0x77, []byte{regID}, make([]byte, 1)); err != nil {
			t.Errorf("the neighbour: %v", err)
		}
		b.Break(0x76, nil)
		b.Unplug(0x76)
		if err := id(); !errors.Is(err, ErrNACK) {
			t.Errorf("unplugged: %v", err)
		}
	})
}

func TestStuckValuesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chip := NewBME280(Daily(1))
		b := NewBus("b")
		b.Plug(0x76, chip)
		measure := func() string {
			set(t, b, regCtrlHum, 1, regCtrlMeas, 1<<5|1<<2|modeForced)
			time.Sleep(time.Hour)
			return string(get(t, b, regPressure, 8))
		}
		first := measure()
		chip.Freeze(true)
		if second, third := measure(), measure(); second != first || third != first {
			t.Error("the values moved")
		}
		chip.Freeze(false)
		if measure() == first {
			t.Error("the values are stuck still")
		}
	})
}

func TestWeatherRepeatsAndStaysOnEarth(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	warmest, coldest := -100.0, 100.0
	for h := range 24 * 30 {
		at := start.Add(time.Duration(h) * time.Hour)
		now := Daily(7)(at)
		if now != Daily(7)(at) {
			t.Fatal("the same seed gives another weather")
		}
		warmest, coldest = max(warmest, now.Temperature), min(coldest, now.Temperature)
		if now.Temperature < -10 || now.Temperature > 45 || now.Pressure < 97e3 || now.Pressure > 105e3 || now.Humidity < 0 || now.Humidity > 100 {
			t.Errorf("%v: %+v", at, now)
		}
		next := Daily(7)(at.Add(time.Second))
		if math.Abs(next.Temperature-now.Temperature) > 0.2 {
			t.Errorf("%v: from %v to %v °C within a second", at, now.Temperature, next.Temperature)
		}
	}
	if warmest-coldest < 6 {
		t.Errorf("from %v to %v °C within a month", coldest, warmest)
	}
	if Daily(7)(start) == Daily(8)(start) {
		t.Error("another seed gives the same weather")
	}
}
