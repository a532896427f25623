package schema_test

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/configs"
	"holdfast/gateway"
	"holdfast/gateway/config"
	"holdfast/gateway/forward"
	"holdfast/gateway/schema"
)

var update = flag.Bool("update", false, "write the golden files anew")

// small is a reference whose keys are all of the gateway's that a test needs.
const small = `# What this gateway is called; it must be unique.
# Default: the host name.
gateway: a

# Logs.
#   max    bytes on disk,
#          not more
#   keep   how long; default: a day
streams:
  vibration: {topics: ['vib/#'], max: 64MiB, keep: 24h}

mqtt:
  # One address, such as
  #
  #   - address: x:1                 # required: where
  #     websocket: {path: /mqtt}     # over HTTP
  listen: [127.0.0.1:1883]
  # Who may do what.
  #
  #   acl:
  #     - {users: ['*'], allow: [publish], topics: ['#']}
  #
  # No rule, no right.
  max_clients: 10000                 # at a time,
                                     # not in all
destinations:
  a:
    type: near                       # required: the kind
    path: x                          # where to; default: nowhere
  b:
    type: far
    url: y
    tries: 3                         # how often
rules:
  - name: a
    from: x
    window: {tumbling: 1s, grace: 1s}
    aggregate: {n: count()}
    emit: [{stream: alerts, topic: b}]
`

type nothing struct{}

func (nothing) Send(context.Context, forward.Batch) error { return nil }
func (nothing) Close() error                              { return nil }

func smallSchema(t *testing.T) *schema.Schema {
	t.Helper()
	kind := func(name string, set func() any) forward.Kind {
		return forward.Kind{Name: name, New: func(s *config.Section) (forward.Sink, error) {
			return nothing{}, s.Decode(set())
		}}
	}
	s, err := schema.New(gateway.Parts{Sinks: []forward.Kind{
		kind("near", func() any {
			return &struct {
				Path config.Path `config:"path,required"`
			}{}
		}),
		kind("far", func() any {
			return &struct {
				URL   string `config:"url,required"`
				Tries int    `config:"tries,min=1,max=9"`
			}{Tries: 3}
		}),
	}}, gateway.Document{Name: "small.yaml", Text: small})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAKeyIsExplainedByTheCommentsOfTheReference(t *testing.T) {
	s := smallSchema(t)
	for path, want := range map[string]string{
		"gateway":                "What this gateway is called; it must be unique|the host name",
		"streams.max":            "bytes on disk, not more|",
		"streams.vibration.keep": "how long|a day",
		"streams.keep":           "how long|a day",
		"mqtt.listen":            "One address|",
		"listen.address":         "where|",
		"listen.websocket":       "over HTTP|",
		"acl":                    "Who may do what. No rule, no right.|",
		"max_clients":            "at a time, not in all|",
		"destinations.type":      "the kind|",
		"near.path":              "where to|nowhere",
		"destinations.far.tries": "how often|",
	} {
		found := s.Find(path)
		switch {
		case len(found) != 1:
			t.Errorf("%s: found %d keys", path, len(found))
		default:
			if got := found[0].Text.Text + "|" + found[0].Default; got != want {
				t.Errorf("%s: got %q, want %q", path, got, want)
			}
		}
	}
}

func TestAKeyIsFoundByTheNamesOfAConfiguration(t *testing.T) {
	s := smallSchema(t)
	for path, want := range map[string]string{
		"streams.vibration.max":          "streams.NAME.max",
		"streams.NAME.max":               "streams.NAME.max",
		"destinations.site-7.path":       "destinations.NAME.path",
		"destinations.far.tries":         "destinations.NAME.tries",
		"destinations.cloud.type":        "destinations.NAME.type",
		"streams.vibration":              "streams",
		"destinations.cloud":             "destinations",
		"rules.overheated.window.grace":  "rules.window.grace",
		"rules.overheated":               "rules",
		"rules[3].window.grace":          "rules.window.grace",
		"rules.overheated.emit[0].topic": "rules.emit.topic",
	} {
		if found := s.Find(path); len(found) != 1 || found[0].Path != want {
			t.Errorf("%s: found %v, want %s", path, found, want)
		}
	}
}

func TestANearKeyIsSuggestedForOneThatDoesNotExist(t *testing.T) {
	s := smallSchema(t)
	for path, want := range map[string]string{
		"mqtt.max_client":              "mqtt.max_clients",
		"max_client":                   "max_clients",
		"gatway":                       "gateway",
		"streams.keeep":                "streams.keep",
		"streams.vibration.keeep":      "streams.vibration.keep",
		"destinations.cloud.ulr":       "destinations.cloud.url",
		"destinatons.cloud.url":        "destinations.cloud.url",
		"destinations.far.tires":       "destinations.far.tries",
		"rules.overheated.windw.grace": "rules.overheated.window.grace",
		"streams.vibration.colour":     "",
		"nothing.of.the.kind":          "",
	} {
		if found := s.Find(path); len(found) > 0 {
			t.Errorf("%s: found %v", path, found)
		}
		if got := s.Nearest(path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestAKeyIsShownWithTypeDefaultAndExample(t *testing.T) {
	s := smallSchema(t)
	var got strings.Builder
	for _, path := range []string{"gateway", "streams.max", "mqtt.listen", "acl", "near.path", "tries"} {
		for _, k := range s.Find(path) {
			got.WriteString(k.String() + "----\n")
		}
	}
	golden(t, "testdata/show.golden", got.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); after a wanted change run the test with -update\n%s", path, diff)
	}
}

// The reference itself is checked with the real parts in cmd/holdfast.
func TestEveryCommentOfTheReferenceCanBeRead(t *testing.T) {
	docs, err := schema.Documents(gateway.Document{Name: "reference.yaml", Text: configs.Reference})
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) < 2 || docs[1].Name != "reference.yaml, another mqtt.listen" {
		t.Errorf("got %d documents", len(docs))
	}
	for _, want := range []string{"\n  acl:\n", "\ndevices:\n", "\n  site:\n", "\n    basic:"} {
		if !strings.Contains(docs[0].Text, want) {
			t.Errorf("%q is still a comment", want)
		}
	}
}
