package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Limits on a file, far above any real configuration: they keep a hostile or
// mistaken file from costing memory.
const (
	maxBytes = 4 << 20
	maxDepth = 64      // nested mappings and lists, aliases followed
	maxNodes = 1 << 20 // values, aliases followed
)

// Load reads one YAML file. The error is [Errors]; a file that has mistakes
// such as repeated keys still returns its section, so that the caller can go
// on and report further mistakes with them. The section is nil if the file
// cannot be read or is not YAML.
func Load(path string) (*Section, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return LoadBytes(path, b)
}

func unreadable(path string, err error) Errors {
	return Errors{{Pos: Pos{File: path}, Msg: "cannot read the file: " + reason(err).Error(), cause: err}}
}

// reason drops the name of the file from an error about it.
func reason(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// LoadBytes reads YAML from b as [Load] does; name stands for the file in
// positions and is what relative paths are relative to.
func LoadBytes(name string, b []byte) (*Section, error) {
	f := &file{name: name, dir: filepath.Dir(name)}
	if len(b) > maxBytes {
		return nil, Errors{{Pos: Pos{File: name}, Msg: fmt.Sprintf("the file has more than %v", Size(maxBytes))}}
	}
	b = bytes.TrimPrefix(b, []byte("\uFEFF"))
	for line := range strings.Lines(string(b)) {
		f.lines = append(f.lines, strings.TrimRight(line, "\r\n"))
	}
	if err := f.checkText(); err != nil {
		return nil, Errors{err}
	}

	loader, err := yaml.NewLoader(bytes.NewReader(b), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, Errors{{Pos: Pos{File: name}, Msg: err.Error(), cause: err}}
	}
	var doc, next yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		return &Section{name: name, node: &node{file: f, kind: Null, line: 1, col: 1}}, nil
	case err != nil:
		return nil, Errors{f.syntaxError(err)}
	}

	c := &converter{file: f, done: map[*yaml.Node]*node{}, open: map[*yaml.Node]bool{}}
	s := &Section{name: name, node: c.convert(doc.Content[0])}
	switch err := loader.Load(&next); {
	case errors.Is(err, io.EOF):
	case err != nil:
		c.errs.Add(f.syntaxError(err))
	default:
		c.errs.Add(f.errorAt(next.Line, next.Column, 3, "a second document begins here; a file holds one"))
	}
	return s, c.errs.Err()
}

// LoadAll reads several files and merges them in their order as [Merge] does.
// The error holds the mistakes of all files; the section is nil if one of them
// cannot be read or is not YAML.
func LoadAll(paths ...string) (*Section, error) {
	var errs Errors
	var all []*Section
	for _, path := range paths {
		s, err := Load(path)
		errs.Add(err)
		if s != nil {
			all = append(all, s)
		}
	}
	if len(all) < len(paths) {
		return nil, errs.Err()
	}
	return Merge(all...), errs.Err()
}

// Merge lays later sections over earlier ones: mappings merge key by key,
// everything else replaces. Positions, and what paths are relative to, stay
// those of the file that a value stands in.
func Merge(sections ...*Section) *Section {
	if len(sections) == 0 {
		return &Section{node: &node{file: &file{dir: "."}, kind: Null}}
	}
	merged := *sections[0]
	for _, s := range sections[1:] {
		merged.node = mergeNodes(merged.node, s.node)
	}
	return &merged
}

func mergeNodes(below, above *node) *node {
	switch {
	case above.kind == Null:
		return below
	case below.kind != Mapping || above.kind != Mapping:
		return above
	}
	merged := *below
	merged.entries = append([]entry(nil), below.entries...)
	for _, e := range above.entries {
		if i := merged.index(e.key.value); i >= 0 {
			merged.entries[i].value = mergeNodes(merged.entries[i].value, e.value)
			if e.value.kind != Mapping {
				merged.entries[i].key = e.key
			}
		} else {
			merged.entries = append(merged.entries, e)
		}
	}
	return &merged
}

// file is the source that positions point into.
type file struct {
	name  string
	dir   string
	lines []string
	trace *Trace // nil unless someone asks what is decoded
}

func (f *file) line(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	return f.lines[n-1]
}

func (f *file) errorAt(line, col, width int, format string, args ...any) *Error {
	return &Error{Pos: Pos{f.name, line, col}, Msg: fmt.Sprintf(format, args...), Source: f.line(line), Width: width}
}

// checkText finds bytes that YAML does not allow, where the library would not
// tell their place.
func (f *file) checkText() *Error {
	for i, line := range f.lines {
		col := 1
		for at, r := range line {
			if r == utf8.RuneError && !strings.HasPrefix(line[at:], "\uFFFD") {
				return f.errorAt(i+1, col, 1, "the byte %#x is not UTF-8 text", line[at])
			}
			if r < ' ' && r != '\t' || r == 0x7f {
				return f.errorAt(i+1, col, 1, "the control character %q is not allowed", r)
			}
			col++
		}
	}
	return nil
}

func (f *file) syntaxError(err error) *Error {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return &Error{Pos: Pos{File: f.name}, Msg: err.Error(), cause: err}
	}
	mark := load.Mark
	// The library places the end of the file on a line that does not exist.
	if n := len(f.lines); mark.Line > n && n > 0 {
		mark.Line, mark.Column = n, utf8.RuneCountInString(f.lines[n-1])+1
	}
	e := f.errorAt(mark.Line, mark.Column, 1, "not valid YAML: %s", f.explain(load, mark))
	e.Source = hideSecrets(e.Source)
	e.cause = err
	return e
}

// explain words the mistakes that people make most, and leaves the others to
// the library.
func (f *file) explain(load *yaml.LoadError, mark yaml.Mark) string {
	text := []rune(f.line(mark.Line))
	before := string(text[:min(max(mark.Column-1, 0), len(text))])
	switch {
	case strings.HasPrefix(strings.TrimLeft(string(text), " "), "\t"):
		return "a tab cannot indent; use spaces"
	case strings.HasSuffix(strings.TrimRight(before, "{"), "$"):
		return "between [ ] or { } write a variable in quotes, as \"${NAME}\""
	case load.Message == "mapping values are not allowed in this context":
		return "a colon and a space cannot stand here; put a value that contains them in quotes"
	case load.Message == "did not find expected key" && strings.ContainsAny(lastChar(before), `"'`):
		return "text follows a closing quote; put the whole value in quotes"
	case load.Message == "found character that cannot start any token" && mark.Column <= len(text):
		return fmt.Sprintf("a value that begins with %c must be in quotes", text[mark.Column-1])
	case strings.HasPrefix(load.Message, "did not find expected ',' or") && load.ContextMark.Line == mark.Line:
		return "between [ ] or { } put a value in quotes that has a comma, a bracket or a brace in it"
	case load.ContextMsg == "":
		return load.Message
	case load.ContextMark.Line > 0 && load.ContextMark.Line != mark.Line:
		return fmt.Sprintf("%s, which began at line %d: %s", load.ContextMsg, load.ContextMark.Line, load.Message)
	}
	return load.ContextMsg + ": " + load.Message
}

func lastChar(text string) string {
	text = strings.TrimRight(text, " ")
	return text[max(0, len(text)-1):]
}

// secretKey is a key whose value must not be printed before its type is known.
// Passwords are full of characters that break YAML.
var secretKey = regexp.MustCompile(`(?i)^([^:#]*(?:password|passwd|passphrase|secret|token|credential|api_?key|authorization)[^:]*:\s)\s*[^\s$].*$`)

func hideSecrets(line string) string { return secretKey.ReplaceAllString(line, "$1…") }
