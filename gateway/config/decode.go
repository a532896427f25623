package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Decode writes the section into the value that into points to, usually a
// struct. What the section does not mention keeps its value. The error is
// [Errors] with every mistake; the value then is incomplete. Decode panics if
// the type itself cannot be decoded into, since that is a mistake in the code.
func (s *Section) Decode(into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic(fmt.Sprintf("config: Decode into %T, want a pointer", into))
	}
	d := &decoder{}
	d.value(s, v.Elem(), options{})
	return d.errs.Err()
}

// Keys returns the keys that a struct, or what a pointer to one points to,
// takes in a mapping.
func Keys(of any) []string {
	var keys []string
	for _, f := range fields(reflect.Indirect(reflect.ValueOf(of))) {
		keys = append(keys, f.key)
	}
	return keys
}

// options are the words of a config tag behind the key.
type options struct {
	required bool
	oneof    []string
	min, max string
}

type field struct {
	key   string
	value reflect.Value
	options
}

// fields lists the fields of a struct that have keys.
func fields(v reflect.Value) []field {
	var all []field
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		tag, tagged := sf.Tag.Lookup("config")
		switch {
		case tagged:
			all = append(all, parseTag(sf, tag, v.Field(i)))
		case sf.Anonymous && sf.Type.Kind() == reflect.Struct:
			all = append(all, fields(v.Field(i))...)
		}
	}
	return all
}

func parseTag(sf reflect.StructField, tag string, v reflect.Value) field {
	words := strings.Split(tag, ",")
	f := field{key: words[0], value: v}
	if f.key == "" || !sf.IsExported() {
		panic(fmt.Sprintf("config: field %s needs a key in its tag and an exported name", sf.Name))
	}
	for _, word := range words[1:] {
		name, arg, _ := strings.Cut(word, "=")
		switch name {
		case "required":
			f.required = true
		case "oneof":
			f.oneof = strings.Split(arg, "|")
		case "min":
			f.min = arg
		case "max":
			f.max = arg
		default:
			panic(fmt.Sprintf("config: field %s has the unknown option %q in its tag", sf.Name, word))
		}
	}
	return f
}

type decoder struct{ errs Errors }

func (d *decoder) errorf(s *Section, format string, args ...any) {
	d.errs = append(d.errs, s.Errorf("", format, args...))
}

var (
	sectionType     = reflect.TypeFor[*Section]()
	namedType       = reflect.TypeFor[Named]()
	exprType        = reflect.TypeFor[Expr]()
	secretType      = reflect.TypeFor[Secret]()
	pathType        = reflect.TypeFor[Path]()
	durationType    = reflect.TypeFor[time.Duration]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// value decodes a section into v by the type of v.
func (d *decoder) value(s *Section, v reflect.Value, o options) {
	t := v.Type()
	s.node.file.trace.note(s, v, o)
	switch {
	case t == sectionType:
		v.Set(reflect.ValueOf(s))
	case t == namedType:
		if d.want(s, Mapping) {
			v.Set(reflect.ValueOf(s.Children()))
		}
	case t.Kind() == reflect.Pointer:
		if s.node.kind != Null {
			fresh := reflect.New(t.Elem())
			d.value(s, fresh.Elem(), o)
			v.Set(fresh)
		}
	case isScalar(t):
		d.scalar(s, v, o)
	case t.Kind() == reflect.Struct:
		if d.want(s, Mapping) || s.node.kind == Null {
			d.fields(s, v)
		}
	case t.Kind() == reflect.Slice:
		d.list(s, v, o)
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		d.mapping(s, v, o)
	default:
		panic(fmt.Sprintf("config: cannot decode into %v", t))
	}
}

func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return true
	}
	return t == exprType || t == secretType || reflect.PointerTo(t).Implements(unmarshalerType)
}

// want reports whether s has the kind, and the mistake if it has another one.
// A key without a value counts as absent where a mapping or list may stand:
// it is what remains when all lines below it are commented out.
func (d *decoder) want(s *Section, kind Kind) bool {
	if s.node.kind != kind && s.node.kind != Null {
		d.errorf(s, "%s must be %v, not %v", s.label(), kind, s.node.kind)
	}
	return s.node.kind == kind
}

// label names the section in messages.
func (s *Section) label() string {
	if s.key == nil && !strings.HasSuffix(s.name, "]") {
		return "the file"
	}
	return s.name
}

func (d *decoder) fields(s *Section, v reflect.Value) {
	all := fields(v)
	known := slices.Clone(s.allow)
	hasSecret := false
	for _, f := range all {
		known = append(known, f.key)
		hasSecret = hasSecret || f.value.Type() == secretType
		child := s.Child(f.key)
		if child != nil {
			d.value(child, f.value, f.options)
		}
		if f.required && (child == nil || child.node.kind == Null && !isScalar(f.value.Type())) {
			d.errorf(s, "the required key %q is missing", f.key)
		}
	}
	for _, e := range s.node.entries {
		if slices.Contains(known, e.key.value) {
			continue
		}
		err := e.key.file.errorAt(e.key.line, e.key.col, e.key.width(), "unknown key %q%s", e.key.value, suggest(e.key.value, known))
		if hasSecret && e.value.kind == Scalar && e.value.line == e.key.line {
			// It may be a secret with a misspelt key.
			err.Source = string([]rune(err.Source)[:e.value.col-1]) + "…"
		}
		d.errs = append(d.errs, err)
	}
}

func (d *decoder) list(s *Section, v reflect.Value, o options) {
	items := s.Items()
	elem := v.Type().Elem()
	if s.node.kind == Scalar && (isScalar(elem) || elem == sectionType) {
		items = []*Section{s}
	} else if !d.want(s, List) {
		return
	}
	all := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.value(item, all.Index(i), o)
	}
	v.Set(all)
}

func (d *decoder) mapping(s *Section, v reflect.Value, o options) {
	if !d.want(s, Mapping) {
		return
	}
	all := reflect.MakeMap(v.Type())
	for _, child := range s.Children() {
		value := reflect.New(v.Type().Elem()).Elem()
		d.value(child, value, o)
		all.SetMapIndex(reflect.ValueOf(child.name).Convert(v.Type().Key()), value)
	}
	v.Set(all)
}
