package rules

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

// golden is a call of each function with a memory, and a condition that holds
// for a time.
var golden = []string{
	`prev(v)`, `change(v)`, `changed(s)`, `rising(v > 50)`, `falling(v > 50)`, `hysteresis(v, 60, 20)`, `hysteresis(v, 20, 60)`,
	`debounce(s, "2s")`, `throttle(v > 0, "4s")`, `duplicate(s, "5s")`, `counter(v > 50)`, `total(v)`,
}

// Forty readings of two devices, some at the same time, some without
// v: what each function makes of them is in testdata/memory.golden.
func TestWhatFunctionsRememberIsGolden(t *testing.T) {
	for _, f := range remembering {
		if call := regexp.MustCompile(`\b` + f.name + `\(`); !call.MatchString(strings.Join(golden, " ")) {
			t.Errorf("the function %s is not called", f.name)
		}
	}
	var yaml strings.Builder
	for i, call := range golden {
		fmt.Fprintf(&yaml, "- {name: f%d, from: '#', key: dev, emit: {stream: out, topic: '%d', fields: {x: '%s'}}}\n", i, i, call)
	}
	yaml.WriteString("- {name: held, from: '#', key: dev, where: v > 50, for: 3s, emit: {stream: out, topic: held, fields: {x: v}}}\n")
	e := engine(t, yaml.String())
	r := rand.New(rand.NewPCG(7, 0))
	var got strings.Builder
	seconds := 0.0
	for i := range 40 {
		if r.IntN(5) > 0 {
			seconds += float64(r.IntN(6)) / 2
		}
		dev, s, v := "ab"[r.IntN(2)], "xyz"[r.IntN(3)], fmt.Sprintf(`,"v":%d`, r.IntN(10)*10)
		if r.IntN(12) == 0 {
			v = ""
		}
		payload := fmt.Sprintf(`{"dev":"%c","s":"%c"%s}`, dev, s, v)
		fmt.Fprintf(&got, "%.1fs %s\n", seconds, payload)
		out := stepOne(e, event.Event{Offset: uint64(i + 1), Topic: "t", Received: at(seconds), Payload: []byte(payload)})
		for line := range strings.Lines(out) {
			line = strings.TrimSpace(line)
			name, _, _ := strings.Cut(line, " ")
			var k int
			if n, _ := fmt.Sscan(name, &k); n == 1 {
				line = golden[k] + strings.TrimPrefix(line, name)
			}
			fmt.Fprintf(&got, "    %s\n", line)
		}
	}
	const path = "testdata/memory.golden"
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("run with -update if this is right (-want +got):\n%s", diff)
	}
}
