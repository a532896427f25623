package devices

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/config"
)

// shaped reads the settings of a device and returns the channel of its
// temperature, from -40 to 85 °C.
func shaped(t *testing.T, yaml string) *channel {
	t.Helper()
	all, err := loadShapes(yaml)
	if err != nil {
		t.Fatal(err)
	}
	return &channel{shape: all["temperature"]}
}

func loadShapes(yaml string) (map[string]shape, error) {
	s, err := config.LoadBytes("shapes.yaml", []byte("d:\n  "+strings.ReplaceAll(yaml, "\n", "\n  ")))
	if err != nil {
		return nil, err
	}
	var set shapeSettings
	d := s.Child("d")
	if err := d.Decode(&set); err != nil {
		return nil, err
	}
	all, errs := shapes(d, set, []Quantity{{Name: "temperature", Unit: "Cel", Low: -40, High: 85}, {Name: "pressure", Unit: "Pa"}})
	return all, errs.Err()
}

func TestReadingsAreShaped(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, yaml string
		values     []float64 // one every second
		want       string    // second=payload
	}{
		{"as they are", "silence: 0s", []float64{1, 1, 90}, `0={"value":1,"unit":"Cel"} 1={"value":1,"unit":"Cel"} 2={"value":90,"unit":"Cel","quality":"out_of_range"}`},
		{"offset and gain", "readings: {temperature: {offset: -0.5, gain: 2}}", []float64{10}, `0={"value":19.5,"unit":"Cel"}`},
		{
			"a table, straight on beyond its ends", "readings: {temperature: {table: [[0, 0], [10, 100], [20, 400]], unit: l}}",
			[]float64{-1, 0, 5, 15, 30}, `0={"value":-10,"unit":"l"} 1={"value":0,"unit":"l"} 2={"value":50,"unit":"l"} 3={"value":250,"unit":"l"} 4={"value":700,"unit":"l"}`,
		},
		{"limits after calibration", "readings: {temperature: {offset: 10, high: 20}}", []float64{10, 10.5}, `0={"value":20,"unit":"Cel"} 1={"value":20.5,"unit":"Cel","quality":"out_of_range"}`},
		{"deadband", "readings: {temperature: {deadband: 0.5}}", []float64{1, 1.5, 1.6, 1.2, 1.1, 0.9}, `0={"value":1,"unit":"Cel"} 2={"value":1.6,"unit":"Cel"} 5={"value":0.9,"unit":"Cel"}`},
		{"every change", "readings: {temperature: {deadband: 0}}", []float64{1, 1, 2, 2, 1}, `0={"value":1,"unit":"Cel"} 2={"value":2,"unit":"Cel"} 4={"value":1,"unit":"Cel"}`},
		{"silence", "silence: 3s\nreadings: {temperature: {deadband: 1}}", []float64{1, 1, 1, 1, 1, 5, 5, 5, 5}, `0={"value":1,"unit":"Cel"} 3={"value":1,"unit":"Cel"} 5={"value":5,"unit":"Cel"} 8={"value":5,"unit":"Cel"}`},
		{"what is out of range is told although it has hardly changed", "readings: {temperature: {deadband: 5}}", []float64{84, 86, 87, 84}, `0={"value":84,"unit":"Cel"} 1={"value":86,"unit":"Cel","quality":"out_of_range"} 3={"value":84,"unit":"Cel"}`},
		{"mean", "publish: 3s", []float64{1, 2, 6, 4, 4, 4, 0}, `2={"value":3,"unit":"Cel","n":3} 5={"value":4,"unit":"Cel","n":3} 6={"value":0,"unit":"Cel","n":1}`},
		{"max", "publish: 3s\nas: max", []float64{1, 9, 2, 0}, `2={"value":9,"unit":"Cel","n":3} 3={"value":0,"unit":"Cel","n":1}`},
		{"min", "readings: {temperature: {publish: 2s, as: min}}", []float64{1, -9, 2}, `1={"value":-9,"unit":"Cel","n":2} 2={"value":2,"unit":"Cel","n":1}`},
		{"median", "publish: 4s\nas: median", []float64{1, 80, 2, 4}, `3={"value":3,"unit":"Cel","n":4}`},
		{"sum", "publish: 2s\nas: sum", []float64{1, 2}, `1={"value":3,"unit":"Cel","n":2}`},
		{"last", "publish: 2s\nas: last", []float64{1, 2}, `1={"value":2,"unit":"Cel","n":2}`},
		{"aggregates and deadband", "publish: 2s\nreadings: {temperature: {deadband: 1}}", []float64{1, 1, 1.5, 1.5, 9, 9}, `1={"value":1,"unit":"Cel","n":2} 5={"value":9,"unit":"Cel","n":2}`},
		{"what is out of range does not count, and is told at once", "publish: 3s", []float64{1, 200, 3, 4}, `1={"value":200,"unit":"Cel","quality":"out_of_range"} 2={"value":2,"unit":"Cel","n":2} 3={"value":4,"unit":"Cel","n":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch := shaped(t, c.yaml)
			var got []string
			add := func(s sample, ok bool) {
				if ok {
					got = append(got, fmt.Sprintf("%v=%s", s.at.Sub(began).Seconds(), s.payload()))
				}
			}
			for i, v := range c.values {
				add(ch.take(began.Add(time.Duration(i)*time.Second), Reading{Name: "temperature", Value: v, Unit: "Cel"}))
			}
			add(ch.flush())
			if diff := cmp.Diff(strings.Split(c.want, " "), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A poll is a little early or late each time; that must not double the silence.
func TestNoSilenceIsLongerThanItMayBeByMoreThanATenthOfAnInterval(t *testing.T) {
	for _, c := range []struct {
		yaml     string
		interval time.Duration
		most     time.Duration
	}{
		{"silence: 10s", time.Second, 10100 * time.Millisecond},
		{"silence: 9600ms", time.Second, 9700 * time.Millisecond},
		{"silence: 2s\npublish: 1s", 200 * time.Millisecond, 2100 * time.Millisecond},
		{"silence: 30s", time.Minute, time.Minute + 100*time.Millisecond}, // there is nothing to tell sooner
	} {
		ch := shaped(t, c.yaml+"\nreadings: {temperature: {deadband: 1}}")
		at, last, n := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Time{}, 0
		for i := range 1000 {
			jitter := []time.Duration{0, 300, -200, 900, -700}[i%5] * time.Microsecond
			s, ok := ch.take(at.Add(time.Duration(i)*c.interval+jitter), Reading{Name: "temperature", Value: 20})
			if !ok {
				continue
			}
			if silent := s.at.Sub(last); n > 0 && (silent > c.most || silent < min(c.most, 4*c.interval)/2) {
				t.Fatalf("%s, read every %v: an event after %v", c.yaml, c.interval, silent)
			}
			last, n = s.at, n+1
		}
		if n < 20 {
			t.Errorf("%s: %d events", c.yaml, n)
		}
	}
}

func TestWhatIsCalculatedHasNoDigitsThatNobodyMeasured(t *testing.T) {
	for _, c := range []struct {
		yaml   string
		values []float64
		want   float64
	}{
		{"readings: {temperature: {gain: 2, offset: -0.4}}", []float64{20.1}, 39.8},
		{"readings: {temperature: {table: [[0, 0], [100, 33]]}}", []float64{0.3}, 0.099},
		{"publish: 1h", []float64{0.1, 0.2, 0.3, 0.1}, 0.175},
		{"publish: 1h\nas: sum", []float64{0.1, 0.2}, 0.3},
	} {
		ch := shaped(t, c.yaml)
		var got sample
		for i, v := range c.values {
			if s, ok := ch.take(time.Unix(int64(i), 0), Reading{Name: "temperature", Value: v}); ok {
				got = s
			}
		}
		if s, ok := ch.flush(); ok {
			got = s
		}
		if got.Value != c.want {
			t.Errorf("%s: %v, want %v", c.yaml, got.Value, c.want)
		}
	}
	if got := tidy(123456789012); got != 123456789012 {
		t.Errorf("a total became %v", got)
	}
}

func TestAPeriodWithoutReadingsGivesNoEvent(t *testing.T) {
	ch := shaped(t, "publish: 1s")
	now := time.Now()
	ch.take(now, Reading{Value: 1})
	ch.flush()
	ch.again()
	if _, ok := ch.flush(); ok {
		t.Error("an event of nothing")
	}
	if _, ok := ch.take(now.Add(time.Hour), Reading{Value: 5}); ok {
		t.Error("a period ended that had not begun")
	}
}

func TestMistakesInTheSettingsOfReadingsAreShownAtTheirPlace(t *testing.T) {
	for yaml, want := range map[string]string{
		"readings: {temprature: {offset: 1}}":                         `2:14: d has no reading "temprature", did you mean "temperature"?`,
		"readings: {temperature: {table: [[1, 2]]}}":                  "2:28: a table needs two pairs at least",
		"readings: {temperature: {table: [[1, 2], [1, 3]]}}":          "2:44: a table has pairs",
		"readings: {temperature: {gain: 2, table: [[1, 2], [2, 3]]}}": "2:37: a reading is calibrated by a table, or by gain and offset",
		"readings: {temperature: {low: 5, high: 5}}":                  "2:33: low must be less than high",
		"readings: {temperature: {deadband: -1}}":                     "deadband must be at least 0",
		"as: average":                           `as: "average" is not known`,
		"readings: {temperature: {offsett: 1}}": `unknown key "offsett", did you mean "offset"?`,
	} {
		if _, err := loadShapes(yaml); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %s", yaml, err, want)
		}
	}
}

func FuzzTheReadingOfACommand(f *testing.F) {
	for _, seed := range []string{"on", "0.5", `{"value": "off", "id": "x", "ttl": 3, "time": "2026-01-01T00:00:00Z"}`, `{"value": 1, "for": "2s"}`, "{}", `"on"`, ""} {
		f.Add(seed)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, payload string) {
		o, err := ParseOrder(Command{Payload: []byte(payload)}, now)
		if err == nil && (math.IsNaN(o.Value) || o.Value < 0 || o.Value > 1 || o.For < 0 || o.Blink < 0 || o.Times < 0 || o.ID == "" || len(o.ID) > 128) {
			t.Errorf("%q became %+v", payload, o)
		}
	})
}
