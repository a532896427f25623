package sim

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func jsonObject(b []byte) bool {
	var object map[string]any
	return json.Unmarshal(b, &object) == nil
}

func TestTheTopicsAndPayloadsAreThoseOfTheContract(t *testing.T) {
	s := scenario(t, `
site: plant
boards:
- name: boiler-1
  area: hall
  sensors:
  - {kind: temperature, base: 21, noise: 0, cycle: 0}
  - {kind: door, every: 5s, cycle: 0, active: {every: 1h, for: 1ms}}
  - {kind: humidity, metric: outside, base: 0, noise: 0, cycle: 0, low: -1}`)
	want := map[string]string{
		"plant/hall/boiler-1/status":      `{"state":"online","ts":`,
		"plant/hall/boiler-1/temperature": `{"value":21.00,"unit":"Cel","ts":`,
		"plant/hall/boiler-1/door":        `{"value":false,"ts":`,
		"plant/hall/boiler-1/outside":     `{"value":0,"unit":"%RH","ts":`,
	}
	for _, m := range upTo(s, 15*time.Second) {
		start, ok := want[m.Topic]
		if !ok || !strings.HasPrefix(string(m.Payload), start) || !jsonObject(m.Payload) {
			t.Errorf("%s %s, want %s…", m.Topic, m.Payload, start)
		}
		if m.Retained != strings.HasSuffix(m.Topic, "/status") {
			t.Errorf("%s: retained %v", m.Topic, m.Retained)
		}
		if b := m.AppendJSON(nil); !jsonObject(b) {
			t.Errorf("not JSON: %s", b)
		}
	}
}

// What sends the messages must not share code with what takes them in, or a
// common mistake would go unseen. The models of chips are no such code: they are
// the other side of the drivers, and import nothing but the interface of lines.
func TestNothingOfTheGatewayIsImported(t *testing.T) {
	allowed := map[string][]string{ // by folder, what of ours it may import
		".":                   {"holdfast/devices/sim"},
		"../cmd/firmware-sim": {"holdfast/firmware-sim"},
		"../devices/sim":      {"holdfast/devices/gpio"},
		"../devices/gpio":     nil,
	}
	for folder, ours := range allowed {
		files, err := filepath.Glob(folder + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal("no files in", folder, err)
		}
		for _, file := range files {
			if folder == "../devices/sim" && strings.HasSuffix(file, "_test.go") {
				continue // drivers check the models there
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				path, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(path, "holdfast/") && !slices.Contains(ours, path) {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}
