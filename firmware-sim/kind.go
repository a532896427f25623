package sim

import (
	"math"
	"time"
)

// Kind is a kind of sensor that boards may carry.
type Kind struct {
	Name     string   // in scenarios, such as power_meter
	Metric   string   // last level of the topic, unless the scenario names another
	Unit     string   // of the values; empty for true and false
	About    string   // what it measures
	Settings []string // keys of a [Sensor] that this kind has, beside kind, metric and every
	Chips    []string // that it may be made with, see [Sensor]

	decimals int    // digits after the point in payloads
	defaults Sensor // for keys that a scenario leaves out
	value    func(p *probe, t time.Duration) float64
	binary   bool // values are true and false, and a change is sent at once
}

// Kinds returns all kinds of sensors.
func Kinds() []Kind {
	analog := []string{"base", "noise", "cycle", "drift", "low", "high", "spikes", "stuck"}
	switched := []string{"active", "cycle", "stuck"}
	all := []Kind{
		{
			Name: "temperature", Metric: "temperature", Unit: "Cel", Settings: analog, decimals: 2,
			About:    "air, liquid or surface; warmest at 15:00 UTC with a positive cycle",
			defaults: Sensor{Every: 5 * time.Second, Base: 21, Noise: 0.15, Cycle: 3, Low: -40, High: 125},
			value:    (*probe).analog,
		},
		{
			Name: "humidity", Metric: "humidity", Unit: "%RH", Settings: analog, decimals: 1,
			About:    "relative humidity; lowest at 15:00 UTC with a negative cycle",
			defaults: Sensor{Every: 10 * time.Second, Base: 45, Noise: 0.6, Cycle: -8, High: 100},
			value:    (*probe).analog,
		},
		{
			Name: "pressure", Metric: "pressure", Unit: "Pa", Settings: analog,
			About:    "of the air",
			defaults: Sensor{Every: 10 * time.Second, Base: 101_300, Noise: 8, Cycle: -60, Low: 30_000, High: 110_000},
			value:    (*probe).analog,
		},
		{
			Name: "co2", Metric: "co2", Unit: "ppm", Settings: analog,
			About:    "carbon dioxide in the air; most at 15:00 UTC with a positive cycle",
			defaults: Sensor{Every: 10 * time.Second, Base: 700, Noise: 12, Cycle: 250, Low: 400, High: 5000},
			value:    (*probe).analog,
		},
		{
			Name: "illuminance", Metric: "illuminance", Unit: "lx", Settings: analog, decimals: 1,
			About:    "light; brightest at 15:00 UTC with a positive cycle",
			defaults: Sensor{Every: 10 * time.Second, Base: 300, Noise: 6, Cycle: 250, High: 50_000},
			value:    (*probe).analog,
		},
		{
			Name: "voltage", Metric: "voltage", Unit: "V", Settings: analog, decimals: 3,
			About:    "of a battery or a supply",
			defaults: Sensor{Every: 10 * time.Second, Base: 12.6, Noise: 0.02, Cycle: 0.2, High: 26},
			value:    (*probe).analog,
		},
		{
			Name: "current", Metric: "current", Unit: "A", Settings: analog, decimals: 3,
			About:    "into a load",
			defaults: Sensor{Every: 5 * time.Second, Base: 1.2, Noise: 0.05, Cycle: 0.4, High: 40},
			value:    (*probe).analog,
		},
		{
			Name: "vibration", Metric: "vibration", Unit: "mm/s", Settings: analog, decimals: 3,
			About:    "vibration velocity of a machine, RMS",
			defaults: Sensor{Every: time.Second, Base: 2.4, Noise: 0.25, High: 50},
			value:    (*probe).analog,
		},
		{
			Name: "door", Metric: "door", Settings: switched, binary: true,
			About:    "true while the door is open; a change is sent at once",
			defaults: Sensor{Every: time.Minute, Active: &Window{10 * time.Minute, 20 * time.Second}, Cycle: 0.8},
			value:    (*probe).active,
		},
		{
			Name: "motion", Metric: "motion", Settings: switched, binary: true,
			About:    "true while something moves; a change is sent at once",
			defaults: Sensor{Every: time.Minute, Active: &Window{3 * time.Minute, 15 * time.Second}, Cycle: 0.9},
			value:    (*probe).active,
		},
		{
			Name: "power_meter", Metric: "energy", Unit: "kWh", Settings: []string{"base", "noise", "cycle", "resets", "stuck"}, decimals: 3,
			About:    "energy counter; base, noise and cycle are those of the load in kW",
			defaults: Sensor{Every: 10 * time.Second, Base: 12, Noise: 2, Cycle: 5},
			value:    (*probe).energy,
		},
		{
			Name: "tank_level", Metric: "level", Unit: "%", Settings: []string{"noise", "low", "high", "refill", "spikes", "stuck"}, decimals: 1,
			About:    "fill of a tank, which falls from high to low and is refilled",
			defaults: Sensor{Every: 10 * time.Second, Noise: 0.1, Low: 20, High: 95, Refill: 2 * time.Hour},
			value:    (*probe).level,
		},
	}
	for i := range all {
		k := &all[i]
		if k.Chips = chipsFor(k.Name); len(k.Chips) > 0 {
			k.Settings = append([]string{"chip", "fault"}, k.Settings...)
		}
	}
	return all
}

func kindNamed(name string) (Kind, bool) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// probe is one sensor of one board: its settings, and its chance for each
// thing that chance decides. It has no state.
type probe struct {
	Sensor
	start time.Time // when the scenario begins
	chip  *chip     // nil if it has none
	bus   []*probe  // those of the board that have one, itself too

	phase                                                  time.Duration // of its readings within Every
	noise, spikes, stuck, faults, actives, tank, load, job random
}

func newProbe(seed uint64, start time.Time, board string, s Sensor) *probe {
	of := func(what string) random { return randomOf(seed, board, s.Metric, what) }
	return &probe{
		Sensor: s, start: start, chip: chipNamed(s.Chip),
		phase: of("phase").moment(0, s.Every),
		noise: of("noise"), spikes: of("spikes"), stuck: of("stuck"), faults: of("fault"),
		actives: of("active"), tank: of("tank"), load: of("load"), job: of("reset"),
	}
}

// read returns what the sensor shows at t, if its reading before was at last.
// Spikes and stuck values included; true is 1. If a fault keeps the board from
// reading it, ok is false, and until tells when that ends.
func (p *probe) read(last, t time.Duration) (v float64, until time.Duration, ok bool) {
	for _, other := range p.bus {
		if until, is := other.fault(t); is == stuckBus {
			return 0, until, false
		}
	}
	v = p.sense(last, t)
	if p.chip == nil {
		return v, 0, true
	}
	until, is := p.fault(t)
	v, ok = p.chip.sense(p.kind.Name, v, p.start.Add(t), is)
	return v, until, ok
}

// fault returns what is wrong with the chip at t, "" for nothing, and until when.
func (p *probe) fault(t time.Duration) (until time.Duration, is string) {
	if p.Fault == nil {
		return 0, ""
	}
	if since, ok := p.Fault.at(p.faults, t); ok {
		return since + p.Fault.For, p.Fault.Is
	}
	return 0, ""
}

func (p *probe) sense(last, t time.Duration) float64 {
	if since, ok := p.Stuck.at(p.stuck, t); ok {
		return p.kind.value(p, since)
	}
	v := p.kind.value(p, t)
	if p.spike(last, t) {
		v = min(max(v+p.Spikes.Size, p.Low), p.High)
	}
	return v
}

// spike says whether a spike falls into (last, t]. The reading at t shows it
// however long it was ago, so that none is lost between two readings.
func (p *probe) spike(last, t time.Duration) bool {
	if p.Spikes == nil {
		return false
	}
	k := int64(t / p.Spikes.Every)
	for _, k := range []int64{k - 1, k} {
		at := time.Duration(k)*p.Spikes.Every + p.spikes.moment(k, p.Spikes.Every)
		if k >= 0 && last < at && at <= t {
			return true
		}
	}
	return false
}

func (p *probe) analog(t time.Duration) float64 {
	v := p.Base + float64(p.Cycle*p.daily(t)) + float64(p.Drift*t.Hours()) + float64(p.Noise*p.noise.normal(int64(t)))
	return min(max(v, p.Low), p.High)
}

// daily is 1 at 15:00, -1 at 03:00.
func (p *probe) daily(t time.Duration) float64 {
	return math.Cos(day * (p.hour(t) - 15))
}

// day is the angle of one hour.
const day = 2 * math.Pi / 24

// hour returns the hours since midnight at t, UTC; days go on counting, so that
// what is integrated over it does not jump.
func (p *probe) hour(t time.Duration) float64 {
	const unixDay = int64(24 * time.Hour / time.Second)
	midnight := p.start.Unix() % unixDay
	return float64(midnight)/3600 + float64(p.start.Nanosecond())/float64(time.Hour) + t.Hours()
}

// level falls from High to Low during most of each Refill and is filled up in
// the rest of it.
func (p *probe) level(t time.Duration) float64 {
	const filling = 0.1
	cycles := float64(t)/float64(p.Refill) + p.tank.unit(0)
	at := cycles - math.Floor(cycles)
	full := 1 - at/(1-filling)
	if at > 1-filling {
		full = (at - (1 - filling)) / filling
	}
	v := p.Low + float64((p.High-p.Low)*full) + float64(p.Noise*p.noise.normal(int64(t)))
	return min(max(v, p.Low), p.High)
}

// energy integrates the load in closed form, so that the counter at t needs no
// history: base, the daily cycle, and three slow waves as noise. The load is
// never negative, see [Sensor.check], so the counter never falls but by a reset.
func (p *probe) energy(t time.Duration) float64 {
	from, counter := time.Duration(0), 1000+float64(p.load.bits(0)%9000)
	if p.Resets > 0 {
		for k := int64(t / p.Resets); k >= 0; k-- {
			at := time.Duration(k)*p.Resets + p.job.moment(k, p.Resets)
			if at <= t {
				from, counter = at, 0
				break
			}
		}
	}
	return counter + p.work(t) - p.work(from)
}

func (p *probe) work(t time.Duration) float64 {
	kwh := float64(p.Base*t.Hours()) + float64(p.Cycle*math.Sin(day*(p.hour(t)-15))/day)
	for i := range int64(3) {
		period := 0.05 + 0.4*p.load.unit(10+i) // hours
		w := 2 * math.Pi / period
		kwh += float64(p.Noise / 3 * math.Sin(w*t.Hours()+2*math.Pi*p.load.unit(20+i)) / w)
	}
	return kwh
}

func (p *probe) active(t time.Duration) float64 {
	if _, ok := p.Active.at(p.actives, t); ok && p.happens(int64(t/p.Active.Every)) {
		return 1
	}
	return 0
}

// happens says whether the k-th window takes place: at night fewer do.
func (p *probe) happens(k int64) bool {
	night := (1 - p.daily(time.Duration(k)*p.Active.Every)) / 2
	return p.actives.unit(-1-k) >= p.Cycle*night
}

// change returns the first time after t and not after limit at which a door or
// a motion sensor changes, or forever.
func (p *probe) change(t, limit time.Duration) time.Duration {
	if !p.kind.binary {
		return forever
	}
	for k := int64(max(t, 0) / p.Active.Every); time.Duration(k)*p.Active.Every <= limit; k++ {
		if !p.happens(k) {
			continue
		}
		start, end := p.Active.slot(p.actives, k)
		for _, at := range []time.Duration{start, end} {
			if t < at && at <= limit {
				return at
			}
		}
	}
	return forever
}

// next returns the time of the first reading after t.
func (p *probe) next(t time.Duration, crowds []Crowd) time.Duration {
	tick := p.tick(t, crowds)
	return min(tick, p.change(t, tick))
}

// tick returns the first regular time after t. While a crowd lasts the regular
// times are Rate times as dense.
func (p *probe) tick(t time.Duration, crowds []Crowd) time.Duration {
	at := after(t, p.phase, p.Every)
	for _, c := range crowds {
		start, end := c.next(max(t, 0))
		if at < start {
			continue
		}
		if at < end {
			at = after(end-1, p.phase, p.Every)
		}
		phase := start + time.Duration(float64(p.phase)/c.Rate)
		if dense := after(max(t, start-1), phase, p.dense(c.Rate)); dense < end {
			at = min(at, dense)
		}
	}
	return at
}

// dense returns Every in a crowd.
func (s *Sensor) dense(rate float64) time.Duration { return time.Duration(float64(s.Every) / rate) }

// after returns the first of first, first+every, first+2*every … after t.
func after(t, first, every time.Duration) time.Duration {
	if t < first {
		return first
	}
	return first + ((t-first)/every+1)*every
}
