package codec

import (
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

func TestASenMLPackWithManySamplesIsManyReadings(t *testing.T) {
	for _, tt := range []struct {
		name, payload string
		want          string // fields of the readings
	}{
		{"one value for each name", `[{"bn":"d:","bt":1.7e9,"n":"temp","t":-5,"v":20},{"n":"hum","v":40}]`, ""},
		{"samples of one name", `[{"bn":"d:","bt":1.7e9,"bu":"Cel","n":"temp","t":-10,"v":20},{"n":"temp","t":-5,"v":21},{"n":"temp","v":22}]`, `
temp float64 20, *value float64 20, hum -, bn string d:, t float64 1.69999999e+09, units.temp string Cel
temp float64 21, *value float64 21, hum -, bn string d:, t float64 1.699999995e+09, units.temp string Cel
temp float64 22, *value float64 22, hum -, bn string d:, t float64 1.7e+09, units.temp string Cel`},
		{"rows, written by column", `[{"bt":1.7e9,"n":"temp","v":20},{"n":"temp","t":1,"v":21},{"n":"hum","v":40},{"n":"hum","t":1,"v":41}]`, `
temp float64 20, *value -, hum float64 40, bn -, t float64 1.7e+09, units.temp -
temp float64 21, *value -, hum float64 41, bn -, t float64 1.700000001e+09, units.temp -`},
		{"newest first", `[{"bt":1.7e9,"n":"temp","v":20},{"n":"temp","t":-1,"v":19}]`, `
temp float64 19, *value float64 19, hum -, bn -, t float64 1.699999999e+09, units.temp -
temp float64 20, *value float64 20, hum -, bn -, t float64 1.7e+09, units.temp -`},
		{"two devices", `[{"bn":"a:","n":"temp","v":20},{"bn":"b:","n":"temp","v":30}]`, `
temp float64 20, *value float64 20, hum -, bn string a:, t float64 1.8e+09, units.temp -
temp float64 30, *value float64 30, hum -, bn string b:, t float64 1.8e+09, units.temp -`},
		{"no times", `[{"n":"temp","v":20},{"n":"hum","v":40},{"n":"temp","v":21}]`, `
temp float64 20, *value -, hum float64 40, bn -, t float64 1.8e+09, units.temp -
temp float64 21, *value float64 21, hum -, bn -, t float64 1.8e+09, units.temp -`},
		{"relative times", `[{"n":"temp","t":-2,"v":20},{"n":"temp","t":-1,"v":21}]`, `
temp float64 20, *value float64 20, hum -, bn -, t float64 1.799999998e+09, units.temp -
temp float64 21, *value float64 21, hum -, bn -, t float64 1.799999999e+09, units.temp -`},
		{"base values are added", `[{"bv":20,"n":"temp","v":0.5},{"n":"temp","v":1.5}]`, `
temp float64 20.5, *value float64 20.5, hum -, bn -, t float64 1.8e+09, units.temp -
temp float64 21.5, *value float64 21.5, hum -, bn -, t float64 1.8e+09, units.temp -`},
		{"no pack", `{"n":1}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := SenML.(Series).At(1.8e9)
			var got strings.Builder
			for _, reading := range c.(Series).Split([]byte(tt.payload)) {
				got.WriteString("\n" + find(c, reading, "temp", "*value", "hum", "bn", "t", "units.temp"))
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	pack, err := cbor.Marshal([]map[int]any{{-2: "d:", 0: "temp", 6: -1, 2: 20}, {0: "temp", 2: 21.5}, {0: "raw", 8: []byte{1, 2}}})
	if err != nil {
		t.Fatal(err)
	}
	c := SenMLCBOR.(Series).At(1.8e9).(Series)
	readings := c.Split(pack)
	if len(readings) != 2 {
		t.Fatalf("%d readings", len(readings))
	}
	if got := find(c, readings[0], "temp", "t", "bn") + "; " + find(c, readings[1], "temp", "t", "raw"); got !=
		"temp float64 20, t float64 1.799999999e+09, bn string d:; temp float64 21.5, t float64 1.8e+09, raw string AQI" {
		t.Error(got)
	}
}
