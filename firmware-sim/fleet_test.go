package sim

import (
	"bytes"
	"encoding/json"
	"flag"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// monday is when scenarios of tests begin.
var monday = time.Date(2026, 1, 5, 6, 0, 0, 0, time.UTC)

// scenario parses YAML that a test has written.
func scenario(t *testing.T, text string) *Scenario {
	t.Helper()
	s, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sensor returns a scenario of one board with one sensor.
func sensor(t *testing.T, settings string) *Scenario {
	t.Helper()
	return scenario(t, "boards: [{name: b, area: a, sensors: ["+settings+"]}]")
}

// upTo returns what is sent in the first d of a fleet of seed 1.
func upTo(s *Scenario, d time.Duration) []Message {
	return during(s.Fleet(1, monday, 0).All(), d)
}

func during(seq iter.Seq[Message], d time.Duration) []Message {
	var all []Message
	for m := range seq {
		if m.At.Sub(monday) >= d {
			break
		}
		all = append(all, m)
	}
	return all
}

// reading is a payload as a receiver reads it.
type reading struct {
	at    time.Duration // when it was sent
	Value any
	Unit  string
	TS    *int64
	Seq   int
}

func (r reading) number() float64 { return r.Value.(float64) }

// measured returns when it was measured, by the clock of the board.
func (r reading) measured() time.Duration { return time.UnixMilli(*r.TS).Sub(monday) }

// readings decodes the messages of one metric.
func readings(t *testing.T, all []Message, metric string) []reading {
	t.Helper()
	var list []reading
	for _, m := range all {
		if !strings.HasSuffix(m.Topic, "/"+metric) {
			continue
		}
		r := reading{at: m.At.Sub(monday)}
		d := json.NewDecoder(bytes.NewReader(m.Payload))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%s %s: %v", m.Topic, m.Payload, err)
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		t.Fatalf("no readings of %s", metric)
	}
	return list
}

func lines(all []Message) string {
	var b []byte
	for _, m := range all {
		b = append(m.AppendJSON(b), '\n')
	}
	return string(b)
}

// The golden files change only with the scenario, or when what is promised of
// repeatability is given up: recorded runs of users are then worth nothing.
func TestTheSameSeedGivesTheSameBytesForEver(t *testing.T) {
	plant, err := Example("plant")
	if err != nil {
		t.Fatal(err)
	}
	faults, err := Load("testdata/faults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"plant":  lines(upTo(plant, 4*time.Second)),
		"faults": lines(during(faults.Fleet(faults.Seed, faults.Start, 0).All(), time.Minute)),
	} {
		file := filepath.Join("testdata", name+".ndjson")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", file, diff)
		}
	}
}

func TestAFleetCanBeReadAgainAndSeedsDiffer(t *testing.T) {
	s, err := Load("testdata/faults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := s.Fleet(1, monday, 0)
	first := lines(during(f.All(), time.Minute))
	if again := lines(during(f.All(), time.Minute)); again != first {
		t.Error("the second reading of one fleet differs from the first")
	}
	if other := lines(during(s.Fleet(2, monday, 0).All(), time.Minute)); other == first {
		t.Error("another seed gives the same messages")
	}
}

func TestAllIsTheBoardsInOrderOfTime(t *testing.T) {
	s, err := Example("flash-crowd")
	if err != nil {
		t.Fatal(err)
	}
	f := s.Fleet(1, monday, 0)
	all := during(f.All(), 30*time.Second)
	if !slices.IsSortedFunc(all, func(a, b Message) int { return a.At.Compare(b.At) }) {
		t.Error("the messages are not in the order of time")
	}
	of := map[string][]Message{}
	for _, m := range all {
		of[m.Board] = append(of[m.Board], m)
	}
	for _, i := range []int{0, 19, 20, 219} {
		want := during(f.Board(i), 30*time.Second)
		if diff := cmp.Diff(want, of[want[0].Board]); diff != "" {
			t.Errorf("board %d (-alone +among all):\n%s", i, diff)
		}
	}
}

func TestAnotherBoardChangesNothingOfTheFirst(t *testing.T) {
	const first = "boards:\n- {name: b, area: a, sensors: [{kind: temperature}, {kind: door}]}\n"
	alone := upTo(scenario(t, first), time.Minute)
	with := upTo(scenario(t, first+"- {name: c, area: a, sensors: [{kind: temperature}]}\n"), time.Minute)
	with = slices.DeleteFunc(with, func(m Message) bool { return m.Board != "b" })
	if diff := cmp.Diff(lines(alone), lines(with)); diff != "" {
		t.Errorf("(-alone +with another):\n%s", diff)
	}
}

func TestBoardsCanBeFewerOrMoreThanTheScenarioHas(t *testing.T) {
	s := scenario(t, "boards:\n- {name: 'p{n}', area: a, count: 2, sensors: [{kind: humidity}]}\n- {name: q, area: a, sensors: [{kind: humidity}]}\n")
	for n, want := range map[int]string{
		0: "p1 p2 q",
		1: "p1",
		7: "p1 p2 q p1.2 p2.2 q.2 p1.3",
	} {
		f := s.Fleet(1, monday, n)
		var names []string
		for _, b := range f.boards {
			names = append(names, b.name)
		}
		if diff := cmp.Diff(want, strings.Join(names, " ")); diff != "" {
			t.Errorf("%d boards: %s", n, diff)
		}
	}
}
