package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// example has a field of every type that the decoder knows.
type example struct {
	Name    string            `config:"name,required"`
	Port    uint16            `config:"port,min=1"`
	Share   float64           `config:"share,min=0,max=1"`
	Clean   bool              `config:"clean"`
	Mode    string            `config:"mode,oneof=append|replace"`
	Timeout Duration          `config:"timeout,min=1ms,max=1h"`
	Pause   time.Duration     `config:"pause"`
	Max     Size              `config:"max,min=1KiB"`
	Dir     Path              `config:"dir"`
	Token   Secret            `config:"token"`
	Addr    netip.Addr        `config:"addr"`
	Topics  []string          `config:"topics"`
	Headers map[string]Secret `config:"headers"`
	Batch   exampleBatch      `config:"batch"`
	TLS     *exampleTLS       `config:"tls"`
	Where   Expr              `config:"where"`
	Raw     *Section          `config:"raw"`
	Rules   []*Section        `config:"rules"`
	Parts   Named             `config:"parts"`
	exampleShared
}

type exampleBatch struct {
	Events int  `config:"events,min=1,max=1000"`
	Bytes  Size `config:"bytes"`
}

type exampleTLS struct {
	CA Path `config:"ca,required"`
}

type exampleShared struct {
	Start string `config:"start,oneof=now|oldest"`
}

func parseText(t *testing.T, text string) *Section {
	t.Helper()
	s, err := LoadBytes("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryFieldTypeIsReadAndDefaultsStay(t *testing.T) {
	t.Setenv("HOLDFAST_TEST_PORT", "8443")
	t.Setenv("HOLDFAST_TEST_TOKEN", "t0k3n")
	s := parseText(t, `
name: ${HOLDFAST_TEST_TOKEN}-$${x}-$y
port: ${HOLDFAST_TEST_PORT}
share: 0.5
clean: true
timeout: 1m30s
pause: 2w
max: 1.5KiB
dir: data
token: ${HOLDFAST_TEST_TOKEN}
addr: 127.0.0.1
topics: [a/b, '#']
headers: {X-Key: "${HOLDFAST_TEST_TOKEN}", X-Plain: p}
batch: {events: 7}
tls: {ca: /etc/ca.pem}
where: value > 80
raw: {any: thing}
rules: one.yaml
parts: {z: 1, a: 2, m: 3}
start: oldest
`)
	got := example{Mode: "append", Batch: exampleBatch{Events: 1, Bytes: 99}}
	if err := s.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Token.Reveal() != "t0k3n" || got.Headers["X-Key"].Reveal() != "t0k3n" || got.Headers["X-Plain"].Reveal() != "p" {
		t.Errorf("secrets: %q %q", got.Token.Reveal(), got.Headers)
	}
	if got.Where.Text != "value > 80" || got.Where.Pos != (Pos{"test.yaml", 16, 8}) {
		t.Errorf("expression %q at %v", got.Where.Text, got.Where.Pos)
	}
	if got.Raw.Name() != "raw" || !got.Raw.Has("any") || len(got.Rules) != 1 || got.Rules[0].Kind() != Scalar {
		t.Errorf("raw sections: %v %v", got.Raw, got.Rules)
	}
	var order []string
	for _, p := range got.Parts {
		order = append(order, p.Name())
	}
	if diff := cmp.Diff([]string{"z", "a", "m"}, order); diff != "" {
		t.Errorf("order of a mapping (-want +got)\n%s", diff)
	}
	got.Token, got.Headers, got.Where, got.Raw, got.Rules, got.Parts = Secret{}, nil, Expr{}, nil, nil, nil
	want := example{
		Name: "t0k3n-${x}-$y", Port: 8443, Share: 0.5, Clean: true, Mode: "append", Timeout: Duration(90 * time.Second),
		Pause: 14 * 24 * time.Hour, Max: 1536, Dir: "data", Addr: netip.MustParseAddr("127.0.0.1"),
		Topics: []string{"a/b", "#"}, Batch: exampleBatch{Events: 7, Bytes: 99}, TLS: &exampleTLS{CA: "/etc/ca.pem"},
		exampleShared: exampleShared{Start: "oldest"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(example{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() }), cmp.Comparer(func(a, b Expr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Each testdata/NAME.bad.yaml is decoded into example; NAME.golden is what the
// user sees.
func TestEveryMistakeIsShownAtItsPlace(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.bad.yaml")
	if len(files) < 5 {
		t.Fatalf("only %d files", len(files))
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			var errs Errors
			s, err := Load(path)
			errs.Add(err)
			if s != nil {
				errs.Add(s.Decode(&example{}))
			}
			if errs.Err() == nil {
				t.Fatal("no mistake found")
			}
			got := errs.Err().Error() + "\n"
			golden := strings.TrimSuffix(path, ".bad.yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, _ := os.ReadFile(golden)
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestLaterFilesOverrideAndExtendEarlierOnes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	base := write("base.yaml", "name: a\ntopics: [x, y]\nbatch: {events: 5, bytes: 10}\nparts: {cloud: {dir: c}}\ndir: base\npause: 1s\n")
	site := write("site/site.yaml", "name: b\ntopics: [z]\nbatch: {events: 6}\nparts: {local: {dir: l}}\ndir: site\nmode:\npause: [2s]\n")
	s, err := LoadAll(base, site)
	if err != nil {
		t.Fatal(err)
	}
	var got example
	err = s.Decode(&got)
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != 2 || errs[0].Pos != (Pos{site, 6, 1}) || errs[1].Pos != (Pos{site, 7, 1}) {
		t.Errorf("the mistakes of the later file: got %v", err)
	}
	if got.Name != "b" || len(got.Topics) != 1 || got.Batch != (exampleBatch{6, 10}) || len(got.Parts) != 2 {
		t.Errorf("got %+v", got)
	}
	if want := Path(filepath.Join(dir, "site", "site")); got.Dir != want {
		t.Errorf("dir is %s, want %s: paths are relative to their own file", got.Dir, want)
	}
	if got, want := got.Parts[1].Path("l"), filepath.Join(dir, "site", "l"); got != want {
		t.Errorf("path is %s, want %s", got, want)
	}
}

func TestAFileThatCannotBeReadIsNamed(t *testing.T) {
	_, err := LoadAll("testdata/absent.yaml", "testdata")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want one that is fs.ErrNotExist", err)
	}
	want := "testdata: cannot read the file: is a directory\ntestdata/absent.yaml: cannot read the file: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestErrorsCollectWhatIsAMistakeAndNothingElse(t *testing.T) {
	var errs Errors
	errs.Add(nil)
	errs.Add((*Error)(nil))
	errs.Add(Errors(nil).Err())
	if errs.Err() != nil {
		t.Errorf("out of nothing came %v", errs.Err())
	}
	late, early := &Error{Pos: Pos{"f", 2, 1}, Msg: "late"}, &Error{Pos: Pos{"f", 1, 1}, Msg: "early"}
	errs.Add(fmt.Errorf("wrapped: %w", late))
	errs.Add(Errors{early, late})
	errs.Add(fs.ErrPermission)
	if want := "permission denied\nf:1:1: early\nf:2:1: late"; errs.Err().Error() != want || !errors.Is(errs, fs.ErrPermission) {
		t.Errorf("got %v", errs.Err())
	}
}

func TestAnEmptyFileIsAConfigurationOfDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "\uFEFF"} {
		s := parseText(t, text)
		got := exampleBatch{Events: 3}
		if err := s.Decode(&got); err != nil || got.Events != 3 {
			t.Errorf("%q: %v %+v", text, err, got)
		}
		if err := s.Decode(&example{}); err == nil {
			t.Errorf("%q: the missing name was not noticed", text)
		}
	}
}

func TestPartsCanShareASection(t *testing.T) {
	s := parseText(t, "start: now\nevents: 5\nevnets: 6\n")
	var shared exampleShared
	if err := s.Only(Keys(shared)...).Decode(&shared); err != nil || shared.Start != "now" {
		t.Errorf("shared part: %v %+v", err, shared)
	}
	var own exampleBatch
	err := s.Allow(Keys(shared)...).Decode(&own)
	want := "test.yaml:3:1: unknown key \"evnets\", did you mean \"events\"?\n    3 | evnets: 6\n      | ^^^^^^"
	if err == nil || err.Error() != want || own.Events != 5 {
		t.Errorf("own part: %+v\n%v", own, err)
	}
}

func TestErrorfPointsAtNestedValues(t *testing.T) {
	s := parseText(t, "batch:\n  events: 5\ntopics: [a, 'b c']\na.b: 7\n")
	for key, want := range map[string]Error{
		"":             {Pos: Pos{"test.yaml", 1, 1}, Width: 1},
		"absent":       {Pos: Pos{"test.yaml", 1, 1}, Width: 1},
		"batch":        {Pos: Pos{"test.yaml", 1, 1}, Width: 5},
		"batch.events": {Pos: Pos{"test.yaml", 2, 11}, Width: 1},
		"batch.absent": {Pos: Pos{"test.yaml", 1, 1}, Width: 5},
		"topics.1":     {Pos: Pos{"test.yaml", 3, 13}, Width: 5},
		"a.b":          {Pos: Pos{"test.yaml", 4, 6}, Width: 1},
	} {
		got := s.Errorf(key, "m")
		if got.Pos != want.Pos || got.Width != want.Width {
			t.Errorf("%q: got %v width %d, want %v width %d", key, got.Pos, got.Width, want.Pos, want.Width)
		}
	}
}

func TestHostileFilesAreRefusedQuickly(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'k'; c++ {
		p := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+p+",", 9) + "*" + p + "]\n"
	}
	chain := "- &a0 [x]\n"
	for i := range 2000 {
		chain += "- &a" + strconv.Itoa(i+1) + " [*a" + strconv.Itoa(i) + "]\n"
	}
	for name, test := range map[string]struct{ text, want string }{
		"alias bomb":      {bomb, "repeats too much"},
		"chain of alias":  {chain, "repeats too much"},
		"alias to itself": {"a: &a [*a]", "contains itself"},
		"deep flow":       {strings.Repeat("[", 5000), "max depth"},
		"deep block":      {strings.Repeat("- ", 5000) + "x", "max depth"},
		"deep mapping":    {strings.Repeat("{a: ", 5000), "max depth"},
		"too large":       {strings.Repeat("#", maxBytes+1), "more than 4MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			s, err := LoadBytes("test.yaml", []byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %.300v, want %s", err, test.want)
			}
			if s != nil {
				_ = s.Decode(&example{})
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestAnAliasRepeatsAValue(t *testing.T) {
	s := parseText(t, "batch: &b {events: 5}\nraw: *b\n")
	var raw exampleBatch
	if err := s.Child("raw").Decode(&raw); err != nil || raw.Events != 5 {
		t.Errorf("%v %+v", err, raw)
	}
}
