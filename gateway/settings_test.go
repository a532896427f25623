package gateway

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/gateway/broker"
	"holdfast/gateway/config"
	"holdfast/gateway/forward"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fakeParts have kinds whose settings are like those of the real ones.
func fakeParts() Parts {
	return Parts{Sinks: []forward.Kind{
		{Name: "http", Requests: 4, New: func(s *config.Section) (forward.Sink, error) {
			var set struct {
				URL         string                   `config:"url,required"`
				Format      string                   `config:"format"`
				Compression string                   `config:"compression"`
				Headers     map[string]config.Secret `config:"headers"`
				Bearer      config.Secret            `config:"bearer"`
				Basic       *config.Section          `config:"basic"`
				TLS         *config.Section          `config:"tls"`
			}
			return fakeSink{}, s.Decode(&set)
		}},
		{Name: "file", New: func(s *config.Section) (forward.Sink, error) {
			var set struct {
				Path config.Path `config:"path,required"`
			}
			if err := s.Decode(&set); err != nil {
				return nil, err
			}
			if strings.HasSuffix(string(set.Path), "full") {
				return nil, errors.New("an error without a position")
			}
			return fakeSink{}, nil
		}},
	}}
}

type fakeSink struct{}

func (fakeSink) Send(context.Context, forward.Batch) error { return nil }
func (fakeSink) Close() error                              { return nil }

func writeConfig(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func loadText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	dir := writeConfig(t, map[string]string{"holdfast.yaml": text})
	return Load([]string{filepath.Join(dir, "holdfast.yaml")}, fakeParts())
}

func TestAnEmptyFileMeansTheDefaults(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/holdfast:/var/lib/other")
	dir := writeConfig(t, map[string]string{"c.yaml": "gateway: g\n"})
	got, err := load([]string{filepath.Join(dir, "c.yaml")}, fakeParts(), 0, noFiles)
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	want := &Config{
		Gateway: "g",
		Store:   StoreConfig{Path: "/var/lib/holdfast", Linger: 20 * time.Millisecond},
		Streams: []StreamConfig{
			{Name: "events", Max: 1 << 30, Keep: day},
			{Name: "alerts", Max: 64 << 20, Keep: 7 * day},
			{Name: "dead", Max: 64 << 20, MaxAge: 30 * day},
		},
		MQTT: MQTTConfig{
			Listen: []broker.Listener{{Address: "127.0.0.1:1883"}}, MaxPacket: 256 << 10, MaxClients: 10000, ReceiveMaximum: 1024,
			Limits:   broker.Limits{ConnectTimeout: 10 * time.Second, TopicBytes: 4096, TopicLevels: 128, Subscriptions: 1000, Retained: 64 << 20},
			Sessions: broker.Sessions{Max: 64 << 20, Expiry: 7 * 24 * time.Hour},
		},
		HTTP:            HTTPConfig{Listen: "127.0.0.1:8480"},
		ShutdownTimeout: 10 * time.Second,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Config{}, "Rules", "Parts")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTheStoreIsInTheHomeDirectoryOfAUser(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	for _, test := range []struct{ xdg, home, want string }{
		{"/x", "/home/u", "/x/holdfast"},
		{"", "/home/u", "/home/u/.local/state/holdfast"},
		{"", "", ""},
	} {
		t.Setenv("XDG_STATE_HOME", test.xdg)
		t.Setenv("HOME", test.home)
		c, err := loadText(t, "gateway: g\n")
		switch {
		case test.want == "" && (err == nil || !strings.Contains(err.Error(), "there is no home directory")):
			t.Errorf("without a home: got %v", err)
		case test.want != "" && (err != nil || c.Store.Path != test.want):
			t.Errorf("got %v, %v; want %s", c, err, test.want)
		}
	}
}

func TestADestinationHasItsOwnKeysAndTheCommonOnes(t *testing.T) {
	c, err := loadText(t, `
streams: {vibration: {topics: ['vib/#'], keep: 1h}}
destinations:
  z: {type: http, url: u, from: [events, vibration], topics: a/+, start: oldest, batch: {events: 7, bytes: 4KiB, linger: 1s}, timeout: 5s, retry: {min: 1s, max: 5m}}
  a: {type: file, path: "-"}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []DestinationConfig{
		{
			Name: "z", Type: "http", From: []string{"events", "vibration"}, Topics: []string{"a/+"}, Start: Start{Oldest: true},
			Batch: forward.Limits{Events: 7, Bytes: 4096, Linger: time.Second}, Timeout: 5 * time.Second,
			Retry: forward.Backoff{Base: time.Second, Cap: 5 * time.Minute}, Requests: 4, Parallel: true,
		},
		{
			Name: "a", Type: "file", From: []string{"alerts"}, Topics: []string{"#"},
			Batch: forward.Limits{Events: 2000, Bytes: 512 << 10, Linger: 200 * time.Millisecond}, Timeout: 30 * time.Second,
			Retry: forward.Backoff{Base: 500 * time.Millisecond, Cap: time.Minute}, Requests: 1,
		},
	}
	if diff := cmp.Diff(want, c.Destinations, cmpopts.IgnoreFields(DestinationConfig{}, "New", "Settings")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, d := range c.Destinations {
		if sink, err := d.New(); err != nil || sink == nil {
			t.Errorf("%s: %v, %v", d.Name, sink, err)
		}
	}
	if got := c.Streams[3]; got.Name != "vibration" || got.Keep != time.Hour || got.Max != 64<<20 {
		t.Errorf("stream %+v", got)
	}
}

// A reload leaves destinations alone whose settings did not change.
func TestSettingsOfADestinationAreComparable(t *testing.T) {
	settings := func(own, token string) string {
		t.Helper()
		dir := writeConfig(t, map[string]string{"c.yaml": "destinations: {d: {type: http, " + own + "}}\n", "token": token})
		sinks := Parts{Sinks: []forward.Kind{{Name: "http", New: func(*config.Section) (forward.Sink, error) { return fakeSink{}, nil }}}}
		c, err := Load([]string{filepath.Join(dir, "c.yaml")}, sinks)
		if err != nil {
			t.Fatal(err)
		}
		return c.Destinations[0].Settings
	}
	t.Setenv("HOLDFAST_TEST_URL", "u")
	const own = `url: "${HOLDFAST_TEST_URL}", token: "${file:token}"`
	base := settings(own, "a")
	if base == "" || settings(`"url": 'u', token: "${file:token}"`, "a") != base {
		t.Error("the same settings, spelt differently, are not equal")
	}
	if settings(own, "b") == base {
		t.Error("a new token in the file was not noticed")
	}
	if settings(own+", x: 1", "a") == base || settings(own+", x: [[1], 2]", "a") == settings(own+", x: [1, [2]]", "a") {
		t.Error("a new value was not noticed")
	}
	t.Setenv("HOLDFAST_TEST_URL", "v")
	if settings(own, "a") == base {
		t.Error("a new value of a variable was not noticed")
	}
}

func TestTheBrokerIsNotOpenedToOthersByAccident(t *testing.T) {
	for text, ok := range map[string]bool{
		"listen: 127.0.0.1:1883":                              true,
		"listen: '[::1]:1883'":                                true,
		"listen: localhost:1883":                              true,
		"listen: off":                                         true,
		"listen: :1883":                                       false,
		"listen: 0.0.0.0:1883":                                false,
		"listen: '[::]:1883'":                                 false,
		"listen: [127.0.0.1:1883, 192.168.0.7:1883]":          false,
		"listen: pi.local:1883":                               false,
		"listen: :1883\n  users: users.txt":                   true,
		"listen: :1883\n  allow_anonymous: true":              true,
		"listen: :1883\n  users: u\n  allow_anonymous: false": true,
		"listen: 127.0.0.1:1883\n  users: u":                  true,
		"listen: 127.0.0.1\n  allow_anonymous: true":          false, // no port
		"listen: 127.0.0.1:mqtt\n  allow_anonymous: true":     false,
		"listen: 127.0.0.1:70000\n  allow_anonymous: true":    false,
		"listen: 1883\n  allow_anonymous: true":               false,
	} {
		if _, err := loadText(t, "mqtt:\n  "+text+"\n"); (err == nil) != ok {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func TestStreamsOfA32BitSystemFitItsAddressSpace(t *testing.T) {
	for text, ok := range map[string]bool{
		"":                                 true,
		"streams: {events: {max: 800MiB}}": true,
		"streams: {events: {max: 1GiB}}":   false,
		"streams: {a: {max: 500MiB}}":      false,
		"streams: {a: {max: 8000000TiB}}":  false,
		"streams: {events: {max: 64MiB}, a: {max: 500MiB}}": true,
	} {
		dir := writeConfig(t, map[string]string{"c.yaml": text})
		_, err := load([]string{filepath.Join(dir, "c.yaml")}, fakeParts(), 1e9, noFiles)
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "a 32-bit system has room for 1GB") {
			t.Errorf("%s: got %v", text, err)
		}
		if _, err := load([]string{filepath.Join(dir, "c.yaml")}, fakeParts(), 0, noFiles); err != nil {
			t.Errorf("%s without a bound: got %v", text, err)
		}
	}
}

func TestRulesComeFromFilesAndInline(t *testing.T) {
	rule := func(name, stream string) string {
		return "name: " + name + "\nfrom: a/b\nwhere: value > 1\nemit: {stream: " + stream + ", topic: x}\n"
	}
	dir := writeConfig(t, map[string]string{
		"c.yaml":            "rules:\n  - rules/*.yaml\n  - more.yaml\n  - none/*.yaml\n  - {name: d, from: {stream: one}, emit: {stream: four, topic: x}}\ndestinations: {f: {type: file, path: p, from: [one, two, three, four]}}\n",
		"rules/b.yaml":      rule("b", "one"),
		"rules/b_test.yaml": "not: a rule\n",
		"rules/a.yaml":      "# nothing yet\n",
		"more.yaml":         "- {name: c, from: [a, b], emit: {stream: two, topic: x}}\n- {name: e, from: a, emit: {stream: three, topic: x}}\n",
	})
	c, err := Load([]string{filepath.Join(dir, "c.yaml")}, fakeParts())
	if err != nil {
		t.Fatal(err)
	}
	var streams []string
	for _, s := range c.Streams[3:] {
		streams = append(streams, s.Name)
	}
	if diff := cmp.Diff([]string{"one", "two", "three", "four"}, streams); diff != "" {
		t.Errorf("streams that rules name (-want +got)\n%s", diff)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings.Error(), "no file matches") {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

func TestMistakesInRulesAreReportedWithAllOthers(t *testing.T) {
	dir := writeConfig(t, map[string]string{
		"c.yaml": "rules: [rules/*.yaml]\nmqtt: {lisen: x}\ndestinations: {f: {type: file, path: p, from: [hot, cold]}}\n",
		"rules/a.yaml": "- name: a\n  from: a/b\n  where: >-\n    value > 1 and\n    value >\n  emit: {stream: hot, topic: x}\n" +
			"- name: b\n  from: a/b\n  emit: {stream: hot, topic: 'x/#'}\n",
		"rules/b.yaml": "name: [\n",
	})
	_, err := Load([]string{filepath.Join(dir, "c.yaml")}, fakeParts())
	var errs config.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("got %v", err)
	}
	var got []string
	for _, e := range errs {
		file, _ := filepath.Rel(dir, e.Pos.File)
		got = append(got, fmt.Sprintf("%s:%d", file, e.Pos.Line))
	}
	// hot is not among them: the rules that write to it are there, if wrong.
	want := []string{"c.yaml:2", "c.yaml:3", "rules/a.yaml:5", "rules/a.yaml:9", "rules/b.yaml:1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("places of mistakes (-want +got)\n%s\n%v", diff, err)
	}
}

func TestTopicsThatNeverReachARuleAreWarnedOf(t *testing.T) {
	c, err := loadText(t, `
streams: {vibration: {topics: ['vib/+/x', 'shock/#']}}
rules:
  - {name: a, from: 'vib/7/x', emit: {stream: alerts, topic: a}}
  - {name: b, from: ['vib/#', shock], emit: {stream: alerts, topic: a}}
  - {name: d, from: {stream: alerts, topics: [vib/7/x]}, emit: {stream: other, topic: a}}
  - {name: c, from: {stream: vibration, topics: [temp/+, '+/+/x']}, emit: {stream: alerts, topic: a}}
`)
	if err != nil {
		t.Fatal(err)
	}
	var lines []int
	for _, w := range c.Warnings {
		lines = append(lines, w.Pos.Line)
	}
	if diff := cmp.Diff([]int{4, 5, 7}, lines); diff != "" {
		t.Errorf("lines with warnings (-want +got)\n%s\n%v", diff, c.Warnings)
	}
}

// Each testdata/config/NAME.bad.yaml is loaded; NAME.golden is what check shows.
func TestCheckShowsEveryMistake(t *testing.T) {
	t.Chdir("testdata/config")
	files, _ := filepath.Glob("*.bad.yaml")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, path := range files {
		t.Run(path, func(t *testing.T) {
			_, err := LoadWithFiles([]string{path}, fakeParts())
			var errs config.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("got %v, want config.Errors", err)
			}
			golden, got := strings.TrimSuffix(path, ".bad.yaml")+".golden", err.Error()+"\n"
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

func TestTheFilesInConfigsPassTheCheck(t *testing.T) {
	for _, name := range []string{"quickstart.yaml", "reference.yaml"} {
		// The reference shows the defaults of 64-bit systems, without a bound.
		c, err := load([]string{filepath.Join("..", "configs", name)}, fakeParts(), 0, noFiles)
		if err != nil {
			t.Errorf("%s:\n%v", name, err)
			continue
		}
		if len(c.Destinations) != 2 || c.Streams[1].Name != "alerts" {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestADestinationBeginsWhereItsStartSays(t *testing.T) {
	for text, want := range map[string]Start{
		"now": {}, "oldest": {Oldest: true}, "24h": {Ago: 24 * time.Hour},
		"2026-03-01T08:00:00Z":      {Since: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)},
		"2026-03-01T08:00:00+02:00": {Since: time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)},
	} {
		c, err := loadText(t, "destinations: {d: {type: file, path: x, start: "+text+"}}\n")
		if err != nil || c.Destinations[0].Start != want {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
	for _, wrong := range []string{"start: yesterday", "start: 0s", "requests: 2", "retry: {min: 2m}", "retry: {max: 1ms}"} {
		if _, err := loadText(t, "destinations: {d: {type: file, path: x, "+wrong+"}}\n"); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}

// Where the reference says that a value is the default, it is.
func TestTheReferenceShowsTheDefaults(t *testing.T) {
	reference, err := load([]string{"../configs/reference.yaml"}, fakeParts(), 0, noFiles)
	if err != nil {
		t.Fatal(err)
	}
	dir := writeConfig(t, map[string]string{"c.yaml": "gateway: pump-house\ningest: {}\nstreams: {vibration: {topics: ['vib/#']}, minutes: {}, local: {}}\n" +
		"destinations: {archive: {type: file, path: x}, cloud: {type: http, url: x}}\n"})
	defaults, err := load([]string{filepath.Join(dir, "c.yaml")}, fakeParts(), 0, noFiles)
	if err != nil {
		t.Fatal(err)
	}
	reference.MQTT.Users, reference.Ingest.Tokens, reference.Tables = "", nil, nil // examples
	if diff := cmp.Diff(defaults, reference, cmpopts.IgnoreFields(Config{}, "Rules", "Warnings", "Parts"), cmpopts.IgnoreFields(StoreConfig{}, "Path"),
		cmpopts.IgnoreFields(DestinationConfig{}, "New", "Settings")); diff != "" {
		t.Errorf("(-defaults +reference)\n%s", diff)
	}
}

func TestTheStoreIsFoundInSpiteOfMistakesElsewhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "holdfast.yaml")
	for text, want := range map[string]string{
		"store: {path: /var/lib/x}\nrules: [{name: a, frm: b}]\nmqtt: 7\n": "/var/lib/x",
		"store: {path: here}\nnothing: true\n":                             filepath.Join(filepath.Dir(path), "here"),
		"store: [\n":                                                       "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := StorePath([]string{path}); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
