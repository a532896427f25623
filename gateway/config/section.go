package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Section is one YAML value with its position: usually a mapping with the
// settings of one part.
type Section struct {
	name  string
	node  *node
	key   *node    // the key that the section is the value of; nil at the root and in lists
	allow []string // keys that someone else decodes
}

// Named are the values of a mapping in the order of the file. As a field type
// it keeps that order; the name of each is its key.
type Named []*Section

// Name returns the key of the section, such as the name of a destination;
// list[2] in a list; the file name for a whole file.
func (s *Section) Name() string { return s.name }

// Kind returns the shape of the section.
func (s *Section) Kind() Kind { return s.node.kind }

// Pos returns where the section stands: the value itself if that is a scalar,
// else the key that introduces it.
func (s *Section) Pos() Pos {
	at := s.mark()
	return Pos{at.file.name, at.line, at.col}
}

// File returns the name of the file that the section stands in.
func (s *Section) File() string { return s.node.file.name }

// Path resolves a path that is written in the section: relative paths are
// relative to the directory of the file. "" and "-" stay as they are.
func (s *Section) Path(p string) string { return s.node.file.path(p) }

func (f *file) path(p string) string {
	if p == "" || p == "-" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(f.dir, p)
}

// Has reports whether the section is a mapping with the key.
func (s *Section) Has(key string) bool { return s.node.index(key) >= 0 }

// Keys returns the keys of a mapping in the order of the file.
func (s *Section) Keys() []string {
	var keys []string
	for _, e := range s.node.entries {
		keys = append(keys, e.key.value)
	}
	return keys
}

// Child returns the value of a key, or nil if the key is absent.
func (s *Section) Child(key string) *Section {
	i := s.node.index(key)
	if i < 0 {
		return nil
	}
	return s.node.entries[i].section()
}

func (e entry) section() *Section { return &Section{name: e.key.value, node: e.value, key: e.key} }

// Children returns the values of a mapping in the order of the file.
func (s *Section) Children() Named {
	var all Named
	for _, e := range s.node.entries {
		all = append(all, e.section())
	}
	return all
}

// Items returns the items of a list.
func (s *Section) Items() []*Section {
	var all []*Section
	for i, n := range s.node.items {
		all = append(all, &Section{name: fmt.Sprintf("%s[%d]", s.name, i), node: n})
	}
	return all
}

// Allow returns the section as seen by a part that shares it with another:
// Decode takes the keys as known, without decoding them.
func (s *Section) Allow(keys ...string) *Section {
	t := *s
	t.allow = slices.Concat(s.allow, keys)
	return &t
}

// Only returns the section with all keys removed but the given ones.
func (s *Section) Only(keys ...string) *Section {
	t, n := *s, *s.node
	n.entries = slices.DeleteFunc(slices.Clone(n.entries), func(e entry) bool {
		return !slices.Contains(keys, e.key.value)
	})
	t.node = &n
	return &t
}

// Errorf returns a mistake at the value of key. A key may lead to a nested
// value, as in "batch.events" or "topics.0". With "", and where the key does
// not exist, the mistake is at the section itself.
func (s *Section) Errorf(key string, format string, args ...any) *Error {
	at := s.find(key).mark()
	return at.file.errorAt(at.line, at.col, at.width(), format, args...)
}

// ReadFile reads a file that the value of key names; path is that value as
// Decode returns it. The error is a mistake at the value.
func (s *Section) ReadFile(key, path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		return b, nil
	}
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = "; the user that runs the gateway must be able to read it"
	}
	return nil, s.Errorf(key, "cannot read %s: %v%s", path, reason(err), hint)
}

func (s *Section) find(key string) *Section {
	for key != "" {
		if child := s.Child(key); child != nil {
			return child
		}
		word, rest, _ := strings.Cut(key, ".")
		if i, err := strconv.Atoi(word); err == nil && i >= 0 && i < len(s.node.items) {
			s = &Section{node: s.node.items[i]}
		} else if child := s.Child(word); child != nil {
			s = child
		} else {
			return s
		}
		key = rest
	}
	return s
}

// mark is the node that mistakes about the section as a whole point at.
func (s *Section) mark() *node {
	if s.key != nil && s.node.kind != Scalar {
		return s.key
	}
	return s.node
}
