package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"holdfast/gateway/schema"
	"holdfast/rules/rulestest"
)

func schemaOfThis(t *testing.T) *schema.Schema {
	t.Helper()
	s, err := ownSchema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Keys of a kind of destination or device may be shown by its sample instead, or
// explained where another kind has the same.
func TestTheReferencesShowAndExplainEveryKey(t *testing.T) {
	s := schemaOfThis(t)
	tests, err := testsSchema()
	if err != nil {
		t.Fatal(err)
	}
	for file, s := range map[string]*schema.Schema{"reference.yaml": s, "reference_test.yaml": tests} {
		for _, k := range s.Keys() {
			switch {
			case !k.Shown && (len(k.Cases) == 0 || k.Text.Text == ""):
				t.Errorf("configs/%s does not show %s", file, k.Title())
			case k.Text.Text == "" && k.Default == "" && len(k.Cases) == 0:
				t.Errorf("configs/%s does not explain %s", file, k.Title())
			}
		}
	}
	// What the code does not know, check would refuse; so do the examples in
	// comments.
	for _, m := range s.Mistakes {
		if !strings.Contains(m.Msg, "exclude each other") && !strings.Contains(m.Msg, "no such file") && !strings.Contains(m.Msg, "there is no table") {
			t.Error(m)
		}
	}
}

// Drivers alone have keys that the reference leaves to their samples: holdfast
// devices drivers shows them.
func TestEverySettingIsInTheReference(t *testing.T) {
	bare := parts()
	bare.Sinks, bare.Drivers = slices.Clone(bare.Sinks), slices.Clone(bare.Drivers)
	for i := range bare.Sinks {
		bare.Sinks[i].Sample = ""
	}
	for i := range bare.Drivers {
		bare.Drivers[i].Sample = ""
	}
	alone, err := schema.New(bare, reference())
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, k := range alone.Keys() {
		shown[k.Title()] = shown[k.Title()] || k.Shown
	}
	keys := 0
	for _, k := range schemaOfThis(t).Keys() {
		ofDriver := slices.ContainsFunc(k.Cases, func(c string) bool { return strings.HasPrefix(c, "driver: ") })
		if !ofDriver && !shown[k.Title()] {
			t.Errorf("configs/reference.yaml has no %s", k.Title())
		}
		keys++
	}
	if keys < 300 {
		t.Errorf("only %d keys", keys)
	}
}

// schemas are the shipped files by the name of the schema.
var schemas = map[string]string{"config": "holdfast.schema.json", "rules": "rules.schema.json", "tests": "tests.schema.json"}

func TestTheShippedSchemasAreThoseOfTheCode(t *testing.T) {
	for name, file := range schemas {
		got, err := schemaOf(name)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("../../configs", file)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what holdfast schema prints (-file +printed); run go test ./cmd/holdfast -run Schema -update\n%s", path, diff)
		}
	}
}

func compiled(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../configs", file))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(file, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// value reads YAML as an editor does.
func value(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return withoutTimes(v)
}

// withoutTimes makes text of times, which the YAML 1.2 of editors does not know.
func withoutTimes(v any) any {
	switch x := v.(type) {
	case time.Time:
		return x.Format(time.RFC3339Nano)
	case []any:
		for i := range x {
			x[i] = withoutTimes(x[i])
		}
	case map[string]any:
		for key := range x {
			x[key] = withoutTimes(x[key])
		}
	}
	return v
}

func TestEveryFileInConfigsFitsItsSchema(t *testing.T) {
	config, rules, tests := compiled(t, schemas["config"]), compiled(t, schemas["rules"]), compiled(t, schemas["tests"])
	files, tested := 0, 0
	err := filepath.WalkDir("../../configs", func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		s := config
		switch {
		case strings.HasSuffix(path, rulestest.Suffix):
			s = tests
			tested++
		case filepath.Base(filepath.Dir(path)) == "rules":
			s = rules
		}
		if err := s.Validate(value(t, text)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil || files < 2 || tested < 8 {
		t.Errorf("%d files, %d of them with tests, %v", files, tested, err)
	}
	// The examples in the comments of the reference are of the same shape.
	docs, err := schema.Documents(reference())
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range append(docs, parts().Samples()...) {
		if err := config.Validate(value(t, []byte(doc.Text))); err != nil {
			t.Errorf("%s: %v", doc.Name, err)
		}
	}
}

// Each of these is found by check, and by the schema.
var mistakes = map[string]string{
	"unknown key at the top":       "gatway: x",
	"unknown key below":            "mqtt: {max_client: 3}",
	"unknown key of a stream":      "streams: {a: {mx: 4MiB}}",
	"unknown key of a listener":    "mqtt: {listen: [{address: '127.0.0.1:1', tsl: {}}]}",
	"unknown key of a rule":        "rules: [{name: a, from: b, were: x, emit: {stream: s}}]",
	"unknown key of a window":      "rules: [{name: a, from: b, window: {tumblin: 1s, tumbling: 1s}, aggregate: {n: count()}, emit: {stream: s, topic: t}}]",
	"unknown key of from":          "rules: [{name: a, from: {strem: events}, emit: {stream: s}}]",
	"unknown key of a destination": "destinations: {a: {type: file, path: x, url: y}}",
	"key of another destination":   "destinations: {a: {type: http, url: 'http://x', path: x}}",
	"unknown kind":                 "destinations: {a: {type: htp, url: 'http://x'}}",
	"unknown key of a device":      "devices: {a: {driver: bme280, bus: sim:a, addr: 3}}",
	"unknown driver":               "devices: {a: {driver: bme28, bus: sim:a}}",
	"missing key of a rule":        "rules: [{name: a, emit: {stream: s}}]",
	"missing key of a destination": "destinations: {a: {type: http}}",
	"missing type":                 "destinations: {a: {path: x}}",
	"mapping for a list":           "rules: {name: a}",
	"list for text":                "gateway: [a]",
	"mapping for text":             "gateway: {a: b}",
	"text for a mapping":           "mqtt: on",
	"text for a number":            "mqtt: {max_clients: many}",
	"quoted number":                "mqtt: {max_clients: '5'}",
	"text for a truth value":       "mqtt: {allow_anonymous: maybe}",
	"number too small":             "mqtt: {max_clients: 0}",
	"number too large":             "destinations: {a: {type: file, path: x, batch: {events: 100001}}}",
	"number beyond its type":       "mqtt: {receive_maximum: 65536}",
	"duration without a unit":      "shutdown_timeout: 10",
	"duration with a wrong unit":   "shutdown_timeout: 10y",
	"size with a wrong unit":       "mqtt: {max_packet: 1KB5}",
	"no value":                     "gateway:",
	"unknown word":                 "destinations: {a: {type: http, url: 'http://x', compression: gzpi}}",
	"unknown word of a rule":       "rules: [{name: a, from: b, time: {field: t, unit: h}, emit: {stream: s}}]",
}

func TestTheSchemaFindsTheMistakesOfShapeThatCheckFinds(t *testing.T) {
	s := compiled(t, schemas["config"])
	for name, text := range mistakes {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		flag := configFlag{paths: []string{path}}
		if _, err := flag.load(); err == nil {
			t.Errorf("%s: check finds nothing in\n%s", name, text)
		}
		if err := s.Validate(value(t, []byte(text))); err == nil {
			t.Errorf("%s: the schema finds nothing in\n%s", name, text)
		}
	}
}

// Each of these is found by holdfast test, and by the schema.
var testMistakes = map[string]string{
	"unknown key at the top":     "{test: [], tests: []}",
	"no tests":                   "start: 2026-01-01T00:00:00Z",
	"no name":                    "tests: [{expect: nothing}]",
	"unknown key of a test":      "tests: [{name: a, expects: nothing}]",
	"unknown key of a step":      "tests: [{name: a, given: [{topics: a}], expect: nothing}]",
	"unknown key of an event":    "tests: [{name: a, expect: [{tpoic: a}]}]",
	"unknown key of one event":   "tests: [{name: a, expect: {tpoic: a}}]",
	"unknown key on the way":     "tests: [{name: a, given: [{expect: [{tpoic: a}]}]}]",
	"another word than nothing":  "tests: [{name: a, expect: none}]",
	"another word on the way":    "tests: [{name: a, given: [{expect: none}]}]",
	"quality of service above 2": "tests: [{name: a, given: [{topic: a, qos: 3}], expect: nothing}]",
	"duration without a unit":    "tests: [{name: a, given: [{advance: 10}], expect: nothing}]",
	"text for a truth value":     "tests: [{name: a, expect: [{fields: {}, exact: maybe}]}]",
	"mapping for text":           "tests: [{name: a, given: [{topic: {a: b}}], expect: nothing}]",
}

func TestTheSchemaFindsTheMistakesOfShapeInTests(t *testing.T) {
	s := compiled(t, schemas["tests"])
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("{name: a, from: a, emit: {stream: s}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(text string) error {
		path := filepath.Join(dir, "a_test.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := rulestest.Loader{}.Load(path)
		return err
	}
	if err := load("tests: [{name: a, given: [{topic: b, data: {x: 1}}], expect: nothing}]"); err != nil {
		t.Fatal(err)
	}
	for name, text := range testMistakes {
		if load(text) == nil {
			t.Errorf("%s: holdfast test finds nothing in\n%s", name, text)
		}
		if s.Validate(value(t, []byte(text))) == nil {
			t.Errorf("%s: the schema finds nothing in\n%s", name, text)
		}
	}
}

func TestTheSchemaTakesWhatCheckTakes(t *testing.T) {
	s := compiled(t, schemas["config"])
	t.Setenv("CLIENTS", "7")
	for name, text := range map[string]string{
		"variables":        "mqtt: {max_clients: \"${CLIENTS}\"}",
		"nothing below":    "mqtt:\nrules:\nstreams: {a: }",
		"one for a list":   "destinations: {a: {type: file, path: x, from: alerts, topics: a/b}}",
		"numbers as text":  "gateway: 7",
		"no unit for zero": "streams: {a: {max_age: 0}}",
		"plain bytes":      "streams: {a: {max: 16777216}}",
		"truth as where":   "rules: [{name: a, from: b, where: true, emit: {stream: s}}]",
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		flag := configFlag{paths: []string{path}}
		if _, err := flag.load(); err != nil {
			t.Errorf("%s: check: %v", name, err)
		}
		if err := s.Validate(value(t, []byte(text))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
