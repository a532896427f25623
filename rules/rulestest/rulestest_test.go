package rulestest_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"holdfast/gateway/config"
	"holdfast/rules"
	"holdfast/rules/rulestest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// frozen is a clock for what tests take.
func frozen() time.Time { return time.Unix(0, 0) }

// Each testdata/NAME.txtar has rules.yaml, rules_test.yaml, and what comes of
// running the tests: want.
func TestWhatAFailureSaysIsGolden(t *testing.T) {
	archives, _ := filepath.Glob("testdata/*.txtar")
	if len(archives) == 0 {
		t.Fatal("no files")
	}
	for _, path := range archives {
		t.Run(filepath.Base(path), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			path, err = filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			for _, f := range archive.Files {
				if err := os.WriteFile(f.Name, f.Data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := outcome(t)
			want := &archive.Files[len(archive.Files)-1]
			if *update {
				want.Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func outcome(t *testing.T) string {
	t.Helper()
	file, err := rulestest.Loader{}.Load("rules_test.yaml")
	if err != nil {
		var errs config.Errors
		if !errors.As(err, &errs) {
			t.Errorf("got %T, want config.Errors", err)
		}
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, r := range file.Run(nil, frozen) {
		word := "ok"
		if !r.Passed() {
			word = "FAIL"
		}
		b.WriteString(word + ": " + r.Test.Name + "\n")
		for _, f := range r.Faults {
			b.WriteString(f.String() + "\n")
		}
	}
	return b.String()
}

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const hot = `
- {name: hot, from: a/+, where: value > 80, emit: {stream: alerts, topic: alerts/hot}}
- {name: again, from: {stream: alerts}, emit: {stream: audit, topic: "audit/{rule}"}}
`

func TestATestSeesWhatRulesMakeOfWhatOtherRulesEmit(t *testing.T) {
	dir := write(t, map[string]string{"r.yaml": hot, "r_test.yaml": `
tests:
  - name: one
    given: [{topic: a/b, data: 90}]
    expect:
      - {rule: hot, stream: alerts}
      - {rule: again, stream: audit, topic: audit/again, payload: "90"}
  - name: only
    only: [audit]
    given: [{topic: a/b, data: 90}]
    expect: {topic: audit/again}
`})
	file, err := rulestest.Loader{}.Load(filepath.Join(dir, "r_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range file.Run(nil, frozen) {
		if !r.Passed() {
			t.Errorf("%s: %v", r.Test.Name, r.Faults)
		}
	}
	for _, s := range file.Stats() {
		if s.Emitted != 2 {
			t.Errorf("%s has emitted %d events in all tests, want 2", s.Rule, s.Emitted)
		}
	}
	if n := len(file.Run(regexp.MustCompile("^on"), frozen)); n != 2 {
		t.Errorf("got %d tests", n)
	}
	if n := len(file.Run(regexp.MustCompile("^one$"), frozen)); n != 1 {
		t.Errorf("got %d tests", n)
	}
}

func TestATestMayUseTheRulesOfAConfiguration(t *testing.T) {
	dir := write(t, map[string]string{"r.yaml": hot, "x_test.yaml": `
config: gateway.yaml
tests: [{name: a, given: [{topic: a/b, data: 1}], expect: nothing}]
`})
	asked := ""
	load := rulestest.Loader{Config: func(path string) (*rules.Set, error) {
		asked = path
		file, err := config.Load(filepath.Join(dir, "r.yaml"))
		if err != nil {
			return nil, err
		}
		return rules.Compile(rules.Sections(file))
	}}
	if _, err := load.Load(filepath.Join(dir, "x_test.yaml")); err != nil {
		t.Error(err)
	}
	if asked != filepath.Join(dir, "gateway.yaml") {
		t.Errorf("asked for %q", asked)
	}
	if _, err := (rulestest.Loader{}).Load(filepath.Join(dir, "x_test.yaml")); err == nil {
		t.Error("without a way to load a configuration there is no mistake")
	}
}

func TestTheXMLHasEveryTest(t *testing.T) {
	dir := write(t, map[string]string{"r.yaml": hot, "r_test.yaml": `
tests:
  - {name: "good <&> quoted", given: [{topic: a/b, data: 1}], expect: nothing}
  - {name: bad, given: [{topic: a/b, data: 90}], expect: nothing}
`})
	t.Chdir(dir)
	file, err := rulestest.Loader{}.Load("r_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, wrong := rulestest.Loader{}.Load("none_test.yaml")
	var b bytes.Buffer
	suites := []rulestest.Suite{{File: "r_test.yaml", Results: file.Run(nil, frozen)}, {File: "none_test.yaml", Err: wrong}}
	if err := rulestest.WriteJUnit(&b, suites); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<testsuites tests="3" failures="1" errors="1" time="0.000000">`, `name="good &lt;&amp;&gt; quoted"`,
		`<failure message="at +0s this came out, and is not expected">`, `<error message="the file or its rules have mistakes">`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is missing in\n%s", want, b.String())
		}
	}
}

// Whatever stands in a file, it is read or refused with places.
func FuzzTestFile(f *testing.F) {
	for _, path := range []string{"../../configs/examples/cold-chain/rules/temperature_test.yaml", "testdata/mistakes.txtar"} {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("tests: [{name: a, given: [{at: +1s, topic: a/b, data: 90}, {advance: 1h}, {expect: {topic: x}}], expect: nothing}]")
	file, err := config.LoadBytes("r.yaml", []byte(hot))
	if err != nil {
		f.Fatal(err)
	}
	set, err := rules.Compile(rules.Sections(file))
	if err != nil {
		f.Fatal(err)
	}
	load := rulestest.Loader{Config: func(string) (*rules.Set, error) { return set, nil }}
	f.Fuzz(func(t *testing.T, text string) {
		root, err := config.LoadBytes("x_test.yaml", []byte(text+"\nconfig: c.yaml\n"))
		if err != nil || root.Has("rules") {
			return
		}
		file, err := load.Read(root)
		if err != nil {
			var errs config.Errors
			if !errors.As(err, &errs) || len(errs) == 0 || errs[0].Pos.Line == 0 {
				t.Fatalf("a mistake without a place: %v", err)
			}
			return
		}
		for _, r := range file.Run(nil, frozen) {
			for _, fault := range r.Faults {
				if fault.Pos.Line == 0 {
					t.Fatalf("a fault without a place: %v", fault)
				}
			}
		}
	})
}
