package sim

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

//go:embed scenarios/*.yaml
var examples embed.FS

// Examples returns the names of the scenarios that are built in.
func Examples() []string {
	files, err := fs.Glob(examples, "scenarios/*.yaml")
	if err != nil {
		return nil // the pattern is ours
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	return files
}

// Example returns a scenario that is built in; "plant" is a small plant with 8
// boards.
func Example(name string) (*Scenario, error) {
	b, err := examples.ReadFile("scenarios/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("scenario %q: no such example; there are %s", name, strings.Join(Examples(), ", "))
	}
	return Parse(name+".yaml", b)
}

// Load reads the scenario of a file. Mistakes in it are [Mistakes].
func Load(file string) (*Scenario, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	return Parse(file, b)
}

// maxBytes is the greatest size of a scenario.
const maxBytes = 1 << 20

// Parse reads a scenario from YAML; file stands for it in errors. Mistakes in
// it are [Mistakes], all of them at once.
func Parse(file string, b []byte) (*Scenario, error) {
	if len(b) > maxBytes {
		return nil, Mistakes{{File: file, Line: 1, Text: fmt.Sprintf("a scenario has at most %d bytes", maxBytes)}}
	}
	s := &Scenario{}
	err := yaml.Load(b, s, yaml.WithKnownFields())
	if errors.Is(err, io.EOF) {
		return nil, Mistakes{{File: file, Line: 1, Text: "the scenario is empty"}}
	}
	var found Mistakes
	if err != nil {
		found = yamlMistakes(err)
	} else {
		found = s.check()
	}
	if len(found) > 0 {
		slices.SortStableFunc(found, func(a, b Mistake) int { return cmp.Compare(a.Line, b.Line) })
		for i := range found {
			found[i].File = file
		}
		return nil, found
	}
	if s.Name == "" {
		s.Name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	}
	return s, nil
}

// Mistake is something in a scenario that the user has to change.
type Mistake struct {
	File string
	Line int // from 1
	Text string
}

// Mistakes are all that was found in one scenario, by line.
type Mistakes []Mistake

// Error returns one mistake a line, as file:line: text.
func (m Mistakes) Error() string {
	var b strings.Builder
	for i, e := range m {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d: %s", e.File, e.Line, e.Text)
	}
	return b.String()
}

// What the YAML library says, in words of the scenario.
var (
	unknownKey = regexp.MustCompile(`^field (.*) not found in type .*$`)
	wrongType  = regexp.MustCompile("^cannot construct !!\\w+(?: (`.*`))? into (.*)$")
	wrongTime  = regexp.MustCompile(`^parsing time "([^"]*)"`)
)

func yamlMistakes(err error) Mistakes {
	var all *yaml.LoadErrors
	var one *yaml.LoadError
	switch {
	case errors.As(err, &all):
	case errors.As(err, &one):
		all = &yaml.LoadErrors{Errors: []*yaml.LoadError{one}}
	default:
		return Mistakes{{Line: 1, Text: err.Error()}}
	}
	var found Mistakes
	for _, e := range all.Errors {
		text := e.Message
		if m := unknownKey.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("unknown key %q", m[1])
		} else if m := wrongType.FindStringSubmatch(text); m != nil {
			text = "expected " + expected(m[2]) + " here, not " + cmp.Or(m[1], "a list or mapping")
		} else if m := wrongTime.FindStringSubmatch(text); m != nil {
			text = "expected " + expected("time.Time") + " here, not `" + m[1] + "`"
		}
		found = append(found, Mistake{Line: max(e.Mark.Line, 1), Text: text})
	}
	return found
}

// expected names a Go type as users do.
func expected(goType string) string {
	switch {
	case goType == "time.Duration":
		return "a duration such as 500ms, 30s or 24h"
	case goType == "time.Time":
		return "a time such as 2026-01-05T06:00:00Z"
	case strings.HasPrefix(goType, "float"):
		return "a number"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case goType == "string":
		return "a text"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	}
	return "a mapping"
}

// child returns the value of a key of a mapping, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != key {
			continue
		}
		v := n.Content[i+1]
		if v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		return v
	}
	return nil
}
