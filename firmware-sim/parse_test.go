package sim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryExampleSendsInItsFirstMinute(t *testing.T) {
	if diff := cmp.Diff([]string{"cold-chain", "flash-crowd", "plant"}, Examples()); diff != "" {
		t.Fatalf("examples: %s", diff)
	}
	for _, name := range Examples() {
		s, err := Example(name)
		if err != nil {
			t.Fatal(err)
		}
		if s.Name != name || s.About == "" || !s.Start.IsZero() {
			t.Errorf("%s: name %q, about %q, start %v", name, s.Name, s.About, s.Start)
		}
		boards := map[string]bool{}
		for _, m := range upTo(s, time.Minute) {
			boards[m.Board] = true
		}
		if n := s.Fleet(1, monday, 0).Len(); len(boards) != n {
			t.Errorf("%s: %d of %d boards send something", name, len(boards), n)
		}
	}
}

func TestThePlantHasEightBoardsAndEveryKindOfSensor(t *testing.T) {
	s, err := Example("plant")
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Fleet(1, monday, 0).Len(); n != 8 {
		t.Errorf("%d boards", n)
	}
	kinds := map[string]bool{}
	for _, b := range s.Boards {
		for _, sensor := range b.Sensors {
			kinds[sensor.Kind] = true
		}
	}
	for _, k := range Kinds() {
		if !kinds[k.Name] {
			t.Errorf("no board has a %s", k.Name)
		}
	}
}

// A case is a file in testdata/mistakes: the scenario, and in its comments
// behind the hash sign what is reported for that line.
func TestMistakesAreReportedAllAtOnceWithTheirLines(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want Mistakes
			for i, line := range strings.Split(string(b), "\n") {
				if _, comment, ok := strings.Cut(line, "# "); ok {
					for text := range strings.SplitSeq(comment, " # ") {
						want = append(want, Mistake{file, i + 1, text})
					}
				}
			}
			s, err := Parse(file, b)
			got, ok := err.(Mistakes)
			if !ok || s != nil {
				t.Fatalf("scenario %v, error %v", s, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAScenarioThatCannotBeReadIsAnErrorOfTheUser(t *testing.T) {
	for name, text := range map[string]string{
		"empty":        "",
		"comment only": "# nothing\n",
		"a list":       "- a\n",
		"not YAML":     "boards: [\n",
		"null":         "~\n",
		"null board":   "boards: [~]\n",
		"null sensor":  "boards: [{name: a, area: b, sensors: [~]}]\n",
		"no door":      "boards: [{name: a, area: b, sensors: [{kind: door, active: ~}]}]\n",
		"huge":         strings.Repeat("#", maxBytes+1),
	} {
		s, err := Parse("x.yaml", []byte(text))
		if _, ok := err.(Mistakes); !ok || s != nil || !strings.HasPrefix(err.Error(), "x.yaml:") {
			t.Errorf("%s: scenario %v, error %v", name, s, err)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a missing file gives %v", err)
	}
	if _, err := Example("plan"); err == nil || !strings.Contains(err.Error(), "cold-chain, flash-crowd, plant") {
		t.Errorf("an unknown example gives %v", err)
	}
}

func TestOneAnchorMayServeSeveralSensors(t *testing.T) {
	s := scenario(t, `
boards:
- {name: a, area: x, sensors: [&door {kind: door, active: {every: 1m, for: 1s}}]}
- {name: b, area: x, sensors: [*door, {kind: door, metric: gate}]}`)
	got := []time.Duration{s.Boards[0].Sensors[0].Active.For, s.Boards[1].Sensors[0].Active.For, s.Boards[1].Sensors[1].Active.For}
	if want := []time.Duration{time.Second, time.Second, 20 * time.Second}; !slices.Equal(got, want) {
		t.Errorf("open for %v, want %v", got, want)
	}
}

// What Parse accepts can be sent: it ends, and keeps to the contract.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"scenarios/*.yaml", "testdata/*.yaml", "testdata/mistakes/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 8<<10 {
			return // would not be quick
		}
		s, err := Parse("f.yaml", b)
		if err != nil {
			if _, ok := err.(Mistakes); !ok {
				t.Fatalf("error %T: %v", err, err)
			}
			return
		}
		fleet := s.Fleet(1, monday, 3)
		for i := range fleet.Len() {
			n, last := 0, time.Time{}
			for m := range fleet.Board(i) {
				if m.At.Before(last) {
					t.Fatalf("%v after %v", m.At, last)
				}
				if topicLevels := strings.Split(m.Topic, "/"); len(topicLevels) != 4 || !jsonObject(m.Payload) {
					t.Fatalf("message %s", m.AppendJSON(nil))
				}
				if last = m.At; n == 50 {
					break
				}
				n++
			}
		}
	})
}
