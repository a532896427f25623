package schema

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/gateway"
	"holdfast/gateway/config"
	"holdfast/rules"
	"holdfast/rules/rulestest"
)

// Schema is what a configuration, or a file with tests of rules, may be, with the
// texts of its keys.
type Schema struct {
	Shape *config.Shape

	// Mistakes are those of the reference and its examples: files that do not
	// exist where it is read are among them.
	Mistakes config.Errors

	texts map[*config.Field]*Text
}

// New works the schema out from the parts that a configuration can name and a
// reference that shows every key. The samples of the parts are read too.
func New(parts gateway.Parts, reference gateway.Document) (*Schema, error) {
	docs, err := Documents(reference)
	if err != nil {
		return nil, fmt.Errorf("read the reference: %w", err)
	}
	docs = append(docs, parts.Samples()...)
	shape, mistakes := gateway.Describe(parts, docs)
	return explained(shape, mistakes, docs)
}

// Tests works out what a file with tests of rules may be from a reference that
// shows every key.
func Tests(reference gateway.Document) (*Schema, error) {
	docs, err := Documents(reference)
	if err != nil {
		return nil, fmt.Errorf("read the reference of tests: %w", err)
	}
	tests := rulestest.Loader{Config: func(string) (*rules.Set, error) { return &rules.Set{}, nil }}
	shape, mistakes := gateway.Trace(docs, func(root *config.Section) error {
		_, err := tests.Read(root)
		return err
	})
	return explained(shape, mistakes, docs)
}

// explained takes the texts of a shape from the documents.
func explained(shape *config.Shape, mistakes config.Errors, docs []gateway.Document) (*Schema, error) {
	s := &Schema{Shape: shape, Mistakes: mistakes, texts: map[*config.Field]*Text{}}
	for _, doc := range docs {
		d, err := read(doc)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", doc.Name, err)
		}
		d.texts(s.Shape, d.root, nil, s.texts)
	}
	s.share()
	return s, nil
}

// share gives keys that are not shown, or that nothing is said about, what the
// reference has about the same key elsewhere: of the same type, as emit and
// publish have, or of another kind, since drivers share many.
func (s *Schema) share() {
	alike := func(k Key) string {
		root, _, _ := strings.Cut(k.Path, ".")
		sh := k.Shape
		return fmt.Sprint(root, " ", k.Key, " ", sh.Form, " ", sh.Min, " ", sh.Max, " ", sh.OneOf)
	}
	typed := func(k Key) string { return k.Of + " " + k.Key }
	said, shown := map[string]*Text{}, map[string]*config.Field{}
	var all []Key
	s.walk(s.Shape, "", nil, func(k Key) { all = append(all, k) })
	for _, k := range all {
		if k.Shown && shown[typed(k)] == nil {
			shown[typed(k)] = k.Field
		}
		for _, name := range []string{typed(k), alike(k)} {
			if t := s.texts[k.Field]; t != nil && t.Text != "" && said[name] == nil {
				said[name] = t
			}
		}
	}
	for _, k := range all {
		if f := shown[typed(k)]; f != nil && !k.Shown {
			k.Shown, k.Field.Shape = true, f.Shape
		}
		t := said[typed(k)]
		if t == nil && len(k.Cases) > 0 {
			t = said[alike(k)]
		}
		if have := s.texts[k.Field]; t != nil && (have == nil || have.Text == "" && have.Default == "") {
			s.texts[k.Field] = &Text{Text: t.Text, Default: t.Default, Example: k.Example}
		}
	}
}

// Rule is the shape of one rule.
func (s *Schema) Rule() (*config.Shape, error) {
	if rules := field(s.Shape, "rules"); rules != nil && rules.Shape.Items != nil {
		for _, o := range options(rules.Shape.Items) {
			if o.Form == config.MappingForm {
				return o, nil
			}
		}
	}
	return nil, fmt.Errorf("the reference shows no rule")
}

// Key is one key of a configuration.
type Key struct {
	Path string // as in streams.NAME.max
	*config.Field
	Text
	Cases []string // that it is for, as in type: http; none for all
}

// Keys lists all keys in the order of the code.
func (s *Schema) Keys() []Key {
	var all []Key
	seen := map[string]bool{} // what may be one or a list of them has its keys twice
	s.walk(s.Shape, "", nil, func(k Key) {
		id := fmt.Sprint(k.Path, " ", k.Cases)
		if !seen[id] {
			all = append(all, k)
		}
		seen[id] = true
	})
	return all
}

func (s *Schema) walk(shape *config.Shape, path string, cases []string, each func(Key)) {
	switch {
	case shape == nil:
	case shape.Alternatives != nil || shape.CaseKey != "":
		for i, o := range options(shape) {
			if o.CaseKey == "" {
				s.walk(o, path, cases, each)
				continue
			}
			own := slices.Clone(o.Fields)
			if i == 0 {
				s.walkFields(slices.DeleteFunc(slices.Clone(own), func(f *config.Field) bool { return f.Own }), path, cases, each)
			}
			own = slices.DeleteFunc(own, func(f *config.Field) bool { return !f.Own })
			s.walkFields(own, path, append(cases[:len(cases):len(cases)], o.CaseKey+": "+o.Case), each)
		}
	case shape.Form == config.ListForm:
		s.walk(shape.Items, path, cases, each)
	case shape.Form == config.NamedForm:
		s.walk(shape.Items, join(path, "NAME"), cases, each)
	default:
		s.walkFields(shape.Fields, path, cases, each)
	}
}

func (s *Schema) walkFields(fields []*config.Field, path string, cases []string, each func(Key)) {
	for _, f := range fields {
		k := Key{Path: join(path, f.Key), Field: f, Cases: cases}
		if t := s.texts[f]; t != nil {
			k.Text = *t
		}
		each(k)
		s.walk(f.Shape, k.Path, cases, each)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func options(s *config.Shape) []*config.Shape {
	if s.Alternatives != nil {
		return s.Alternatives
	}
	return []*config.Shape{s}
}
