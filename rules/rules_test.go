package rules

import (
	"testing"

	"holdfast/gateway/config"
)

// compile makes a set of a list of rules in YAML.
func compile(t testing.TB, yaml string) (*Set, error) {
	t.Helper()
	s, err := config.LoadBytes("rules.yaml", []byte("rules:\n"+yaml))
	if err != nil {
		return nil, err
	}
	return Compile(s.Child("rules").Items())
}

func mustCompile(t testing.TB, yaml string) *Set {
	t.Helper()
	set, err := compile(t, yaml)
	if err != nil {
		t.Fatalf("compile:\n%v", err)
	}
	return set
}

func engine(t testing.TB, yaml string) *Engine {
	t.Helper()
	e := mustCompile(t, yaml).Engine(EventsStream)
	if e == nil {
		t.Fatal("no rule reads the events")
	}
	return e
}
