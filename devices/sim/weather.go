package sim

import (
	"math"
	"time"
)

// Climate is what a chip is exposed to.
type Climate struct {
	Temperature float64 // °C
	Pressure    float64 // Pa
	Humidity    float64 // % relative humidity
}

// Weather tells the climate at a time; it always gives the same answer.
type Weather func(t time.Time) Climate

// Steady returns a weather that never changes.
func Steady(c Climate) Weather { return func(time.Time) Climate { return c } }

// Drift returns a weather as a sensor sees it whose error grows by so much per
// day from the given time on.
func Drift(w Weather, from time.Time, perDay Climate) Weather {
	return func(t time.Time) Climate {
		c, days := w(t), max(0, t.Sub(from).Hours()/24)
		c.Temperature += days * perDay.Temperature
		c.Pressure += days * perDay.Pressure
		c.Humidity += days * perDay.Humidity
		return c
	}
}

// Daily returns the weather of a shed: warmest in the afternoon (UTC), air
// that dries as it warms, fronts that pass within days, and a little noise.
// Equal seeds make equal weather.
func Daily(seed uint64) Weather {
	mean := 16 + 8*unit(seed, 0)
	return func(t time.Time) Climate {
		const day = 24 * time.Hour
		phase := 2 * math.Pi * (float64(t.UTC().Hour()) + float64(t.UTC().Minute())/60 + float64(t.UTC().Second())/3600) / 24
		warmth := -math.Cos(phase - 2*math.Pi*3/24) // coldest at 03:00, warmest at 15:00
		front := wander(seed+1, t, 3*day)
		temperature := mean + 4*warmth + 3*wander(seed+2, t, 2*day) +
			0.2*wander(seed+3, t, 10*time.Minute) + 0.03*wander(seed+4, t, time.Second)
		return Climate{
			Temperature: temperature,
			Pressure:    101_300 + 1_500*front + 20*wander(seed+5, t, time.Hour) + 2*wander(seed+6, t, time.Second),
			Humidity: min(100, max(0, 55-2.5*(temperature-mean)-10*front+
				2*wander(seed+7, t, 20*time.Minute)+0.1*wander(seed+8, t, time.Second))),
		}
	}
}

// wander moves smoothly between random values from -1 to 1, one each period.
func wander(seed uint64, t time.Time, period time.Duration) float64 {
	at := float64(t.UnixMilli()) / float64(period.Milliseconds())
	step := math.Floor(at)
	x := at - step
	x = x * x * (3 - 2*x)
	from, to := 2*unit(seed, int64(step))-1, 2*unit(seed, int64(step)+1)-1
	return from + (to-from)*x
}

// unit is a random number from 0 to 1 that depends on its arguments only.
func unit(seed uint64, n int64) float64 {
	x := seed*0x9e3779b97f4a7c15 + uint64(n)
	for range 2 {
		x ^= x >> 32
		x *= 0xd6e8feb86659fd93
	}
	x ^= x >> 32
	return float64(x>>11) / (1 << 53)
}
