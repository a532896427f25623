package sim

import (
	"math"
	"testing"
	"time"
)

func TestAHealthySensorSendsInEqualStepsNearItsBase(t *testing.T) {
	list := readings(t, upTo(sensor(t, "{kind: temperature, every: 2s, base: 20, noise: 0.5, cycle: 0}"), time.Hour), "temperature")
	if n := len(list); n < 1799 || n > 1800 {
		t.Errorf("%d readings in an hour", n)
	}
	sum, squares := 0.0, 0.0
	for i, r := range list {
		if r.Seq != i+1 || r.Unit != "Cel" || r.measured() != r.at.Round(time.Millisecond) && r.measured() != r.at.Truncate(time.Millisecond) {
			t.Fatalf("reading %d: %+v measured %v", i, r, r.measured())
		}
		if i > 0 && r.at-list[i-1].at != 2*time.Second {
			t.Fatalf("%v between two readings", r.at-list[i-1].at)
		}
		off := r.number() - 20
		if math.Abs(off) > 3.5*0.5 {
			t.Errorf("noise of %v", off)
		}
		sum += off
		squares += off * off
	}
	n := float64(len(list))
	if mean, dev := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.05 || math.Abs(dev-0.5) > 0.05 {
		t.Errorf("mean off by %v, standard deviation %v", mean, dev)
	}
}

func TestTheDayIsWarmestAtThreeInTheAfternoon(t *testing.T) {
	list := readings(t, upTo(sensor(t, "{kind: temperature, every: 10m, base: 20, noise: 0, cycle: 5}"), 48*time.Hour), "temperature")
	for _, r := range list {
		hour := math.Mod(6+r.at.Hours(), 24)
		want := 20 + 5*math.Cos((hour-15)/24*2*math.Pi)
		if math.Abs(r.number()-want) > 0.006 {
			t.Fatalf("%v at %v o'clock, want %v", r.number(), hour, want)
		}
	}
}

func TestDriftGrowsWithTimeUpToWhatTheSensorCanShow(t *testing.T) {
	list := readings(t, upTo(sensor(t, "{kind: temperature, every: 1m, base: 20, noise: 0, cycle: 0, drift: 2, high: 24}"), 4*time.Hour), "temperature")
	for _, r := range list {
		if want := min(20+2*r.at.Hours(), 24); math.Abs(r.number()-want) > 0.006 {
			t.Fatalf("%v after %v, want %v", r.number(), r.at, want)
		}
	}
}

func TestThereIsExactlyOneSpikeInEachOfItsTimes(t *testing.T) {
	list := readings(t, upTo(sensor(t, "{kind: vibration, every: 1s, base: 2, noise: 0.1, spikes: {every: 1m, size: 20}}"), 30*time.Minute), "vibration")
	spikes := 0
	for _, r := range list {
		switch v := r.number(); {
		case v > 21:
			spikes++
		case v > 2.4:
			t.Errorf("neither a spike nor noise: %v", v)
		}
	}
	// The last one may be due after the last reading.
	if spikes < 29 || spikes > 30 {
		t.Errorf("%d spikes in 30 minutes", spikes)
	}
}

func TestAStuckSensorRepeatsOneValueForItsTime(t *testing.T) {
	list := readings(t, upTo(sensor(t, "{kind: temperature, every: 1s, noise: 1, stuck: {every: 5m, for: 60s}}"), 50*time.Minute), "temperature")
	runs, length := 0, 1
	for i := 1; i < len(list); i++ {
		if list[i].Value == list[i-1].Value {
			length++
			continue
		}
		if length >= 59 { // noise may repeat by chance, but not so often
			runs++
			if length > 62 {
				t.Errorf("stuck for %d readings", length)
			}
		}
		length = 1
	}
	if runs < 9 || runs > 10 {
		t.Errorf("stuck %d times in 10 times 5 minutes", runs)
	}
}

func TestAMeterNeverFallsButByAReset(t *testing.T) {
	for name, s := range map[string]struct {
		settings string
		resets   int
	}{
		"without resets": {"{kind: power_meter, every: 5s, base: 10, cycle: 6, noise: 4}", 0},
		"with resets":    {"{kind: power_meter, every: 5s, base: 10, cycle: 6, noise: 4, resets: 1h}", 24},
	} {
		t.Run(name, func(t *testing.T) {
			list := readings(t, upTo(sensor(t, s.settings), 24*time.Hour), "energy")
			resets, total := 0, 0.0
			for i := 1; i < len(list); i++ {
				step := list[i].number() - list[i-1].number()
				if step < 0 {
					resets++
					if v := list[i].number(); v > 20*5/3600.0 {
						t.Errorf("the counter begins at %v after a reset", v)
					}
					continue
				}
				total += step
			}
			if resets < s.resets-1 || resets > s.resets {
				t.Errorf("%d resets in a day, want %d", resets, s.resets)
			}
			if math.Abs(total-240) > 2 { // 24 h of 10 kW
				t.Errorf("%v kWh in a day, want 240", total)
			}
		})
	}
}

func TestATankFallsAndIsRefilled(t *testing.T) {
	list := readings(t, upTo(sensor(t, "{kind: tank_level, every: 10s, noise: 0, low: 10, high: 90, refill: 1h}"), 10*time.Hour), "level")
	refills := 0
	for i := 1; i < len(list); i++ {
		v, before := list[i].number(), list[i-1].number()
		if v < 10 || v > 90 {
			t.Errorf("level %v", v)
		}
		if v > 85 && before <= 85 {
			refills++
		}
	}
	if refills < 9 || refills > 10 {
		t.Errorf("%d refills in 10 hours", refills)
	}
}

func TestADoorTellsEachChangeAtOnceAndItsStateBetween(t *testing.T) {
	list := readings(t, upTo(sensor(t, "{kind: door, every: 30s, cycle: 0, active: {every: 2m, for: 7s}}"), time.Hour), "door")
	opened := 0
	since, open := time.Duration(0), false
	for i, r := range list {
		if r.Unit != "" {
			t.Fatalf("a door has unit %q", r.Unit)
		}
		if i > 0 && r.at-list[i-1].at > 30*time.Second {
			t.Errorf("silent for %v", r.at-list[i-1].at)
		}
		switch now := r.Value.(bool); {
		case now && !open:
			opened, since = opened+1, r.at
		case !now && open && r.at-since != 7*time.Second:
			t.Errorf("told that it has closed after %v, want 7s", r.at-since)
		}
		open = r.Value.(bool)
	}
	if opened != 30 {
		t.Errorf("opened %d times in an hour, want 30", opened)
	}
}

func TestThereIsLessMotionAtNight(t *testing.T) {
	list := readings(t, upTo(sensor(t, "{kind: motion, every: 1h, cycle: 0.9, active: {every: 1m, for: 5s}}"), 10*24*time.Hour), "motion")
	var night, noon int
	for _, r := range list {
		switch hour := int(6+r.at.Hours()) % 24; {
		case r.Value == false:
		case hour >= 1 && hour < 5:
			night++
		case hour >= 13 && hour < 17:
			noon++
		}
	}
	if night == 0 || night*4 > noon {
		t.Errorf("%d at night, %d in the afternoon", night, noon)
	}
}

func TestDuplicatesAreTheSameBytesAtOnce(t *testing.T) {
	s := scenario(t, "boards: [{name: b, area: a, duplicates: 0.1, sensors: [{kind: humidity, every: 1s}]}]")
	all := upTo(s, time.Hour)
	repeated := 0
	for i, m := range all {
		if !m.Repeated {
			continue
		}
		repeated++
		m.Repeated = false
		if before := all[i-1]; string(before.Payload) != string(m.Payload) || before.Topic != m.Topic {
			t.Fatalf("%s is no duplicate of %s", m.Payload, before.Payload)
		}
	}
	if repeated < 270 || repeated > 450 {
		t.Errorf("%d of 3600 readings are sent twice, want a tenth", repeated)
	}
}

func TestABoardWithoutALinkKeepsItsLastReadingsAndSendsThemInOrder(t *testing.T) {
	s := scenario(t, "boards: [{name: b, area: a, buffer: 10, reconnects: {every: 2m, for: 30s}, sensors: [{kind: humidity, every: 1s}]}]")
	all := upTo(s, time.Hour)
	var down bool
	var dropped, ups, lost int
	for i, m := range all {
		switch m.Link {
		case LinkDropped:
			if string(m.Payload) != willPayload || !m.Retained {
				t.Fatalf("the will is %s", m.Payload)
			}
			down = true
			dropped++
			if up := all[min(i+1, len(all)-1)]; i+1 < len(all) && (up.Link != LinkUp || up.At.Sub(m.At) != 30*time.Second) {
				t.Fatalf("after the break comes %s", lines(all[i:i+2]))
			}
		case LinkUp:
			if i > 0 && !down {
				t.Fatal("connected twice")
			}
			down = false
			ups++
			lost += m.Lost
		}
	}
	if dropped < 29 || dropped > 30 || ups < dropped {
		t.Errorf("%d breaks and %d connections in an hour", dropped, ups)
	}
	list := readings(t, all, "humidity")
	gaps := 0
	for i := 1; i < len(list); i++ {
		if list[i].Seq <= list[i-1].Seq {
			t.Fatalf("seq %d after %d", list[i].Seq, list[i-1].Seq)
		}
		gaps += list[i].Seq - list[i-1].Seq - 1
		if late := list[i].at - list[i].measured(); late < 0 || late > 11*time.Second {
			t.Errorf("reading %d was %v old", list[i].Seq, late)
		}
	}
	// 30 readings in a break, 10 are kept.
	if gaps != lost || lost < 19*(ups-1) || lost > 21*(ups-1) {
		t.Errorf("%d readings are missing, %d told of, in %d breaks", gaps, lost, ups-1)
	}
}

func TestAWrongClockShowsInTSOnly(t *testing.T) {
	right := readings(t, upTo(clockScenario(t, "0s", "0", "0s"), time.Hour), "humidity")
	wrong := readings(t, upTo(clockScenario(t, "-90s", "100", "5m"), time.Hour), "humidity")
	if len(right) != len(wrong) {
		t.Fatalf("%d readings, %d with a wrong clock", len(right), len(wrong))
	}
	for i, w := range wrong {
		r := right[i]
		if w.at != r.at || w.Value != r.Value || w.Seq != r.Seq {
			t.Fatalf("reading %d: %+v with a wrong clock, %+v without", i, w, r)
		}
		if set := w.at > 5*time.Minute+time.Second; w.at < 5*time.Minute && w.TS != nil || set && w.TS == nil {
			t.Fatalf("ts %v after %v", w.TS, w.at)
		} else if set {
			want := r.measured() - 90*time.Second + r.at/10_000
			if off := w.measured() - want; off.Abs() > 2*time.Millisecond {
				t.Fatalf("off by %v", off)
			}
		}
	}
}

func clockScenario(t *testing.T, skew, ppm, unset string) *Scenario {
	t.Helper()
	return scenario(t, "boards: [{name: b, area: a, clock: {skew: "+skew+", ppm: "+ppm+", unset: "+unset+"}, sensors: [{kind: humidity, every: 10s}]}]")
}

func TestInACrowdBoardsSendRateTimesAsOften(t *testing.T) {
	s := scenario(t, `
boards:
- {name: b, area: hall, sensors: [{kind: humidity, every: 2s}]}
- {name: c, area: yard, sensors: [{kind: humidity, every: 2s}]}
crowds: [{at: 1m, for: 20s, every: 5m, rate: 20, areas: [hall]}]`)
	count := map[string]int{}
	for _, m := range upTo(s, 10*time.Minute) {
		in := (m.At.Sub(monday)+4*time.Minute)%(5*time.Minute) < 20*time.Second
		if in && m.Link == LinkKept {
			count[m.Board]++
		}
	}
	if b, c := count["b"], count["c"]; b < 399 || b > 401 || c < 19 || c > 21 {
		t.Errorf("%d readings of the crowd in 2 times 20s, want 400; %d of the board in another area, want 20", b, c)
	}
}

func TestABoardThatIsNotPresentIsSilentAndStartsAnew(t *testing.T) {
	s := scenario(t, "boards: [{name: b, area: a, present: {at: 1m, for: 30s, every: 2m}, sensors: [{kind: humidity, every: 1s}]}]")
	all := upTo(s, 6*time.Minute)
	var links []Link
	for _, m := range all {
		if in := (m.At.Sub(monday)+time.Minute)%(2*time.Minute) <= 30*time.Second; !in {
			t.Fatalf("sent at %v", m.At.Sub(monday))
		}
		if m.Link != LinkKept {
			links = append(links, m.Link)
		}
	}
	if len(links) != 6 || links[0] != LinkUp || links[1] != LinkDown || links[4] != LinkUp || links[5] != LinkDown {
		t.Errorf("comes and goes as %v", links)
	}
	starts := 0
	for _, r := range readings(t, all, "humidity") {
		if r.Seq == 1 {
			starts++
		}
	}
	if starts != 3 {
		t.Errorf("seq begins %d times in 3 power-ons", starts)
	}
}
