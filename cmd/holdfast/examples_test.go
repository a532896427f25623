package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/gateway"
	"holdfast/rules"
	"holdfast/rules/rulestest"
)

func TestTheReferenceOfTestsPasses(t *testing.T) {
	load := rulestest.Loader{Config: func(path string) (*rules.Set, error) { return rulesOf(path) }}
	f, err := load.Load("../../configs/reference_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range f.Run(nil, time.Now) {
		for _, fault := range r.Faults {
			t.Errorf("%s: %v", r.Test.Name, fault)
		}
	}
}

// Each folder below configs/examples is a case of its own: its configuration
// passes the check without a warning, and its tests pass and leave no rule out.
func TestEveryExampleWorksAndIsTested(t *testing.T) {
	cases, err := filepath.Glob("../../configs/examples/*/holdfast.yaml")
	if err != nil || len(cases) < 5 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, path := range cases {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			c, err := gateway.Load([]string{path}, parts())
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Warnings) > 0 {
				t.Error(c.Warnings)
			}
			dir := filepath.Dir(path)
			if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
				t.Error(err)
			}
			emitted := map[string]bool{}
			files, err := testFiles([]string{dir})
			if err != nil {
				t.Fatal(err)
			}
			load := rulestest.Loader{Config: func(path string) (*rules.Set, error) { return rulesOf(path) }}
			for _, file := range files {
				f, err := load.Load(file)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range f.Run(nil, time.Now) {
					for _, fault := range r.Faults {
						t.Errorf("%s: %v", r.Test.Name, fault)
					}
				}
				for _, s := range f.Stats() {
					emitted[s.Rule] = emitted[s.Rule] || s.Emitted > 0
				}
			}
			for _, r := range c.Rules.Rules() {
				if !emitted[r.Name] {
					t.Errorf("no test has the rule %s emit anything", r.Name)
				}
			}
		})
	}
}
