package config

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Form is what kind of value a setting takes.
type Form int

// The forms of settings.
const (
	AnyForm      Form = iota // not known
	TextForm                 // any single value
	TruthForm                // true or false
	IntegerForm              // whole numbers
	NumberForm               // numbers
	DurationForm             // [Duration] and time.Duration
	SizeForm                 // [Size]
	PathForm                 // [Path]
	SecretForm               // [Secret]
	ExprForm                 // [Expr]
	WordForm                 // text of a form that only its type knows
	MappingForm              // a mapping with the keys that Fields name
	NamedForm                // a mapping with any keys, to values like Items
	ListForm                 // a list of values like Items
)

// Shape is what the value of a setting may be.
type Shape struct {
	Form     Form
	OneOf    []string // the only values; nil for all
	Min, Max string   // of integers, numbers, durations and sizes; "" for no limit
	Default  string   // as one would write it; "" if there is none, or it is not known

	Fields []*Field // of a mapping
	Items  *Shape   // of a list or of names; nil if not known
	Single bool     // a list that may also be written as one item

	// Of a mapping whose keys depend on one of them, as those of a
	// destination on its type: that key, and its value for these Fields.
	CaseKey, Case string

	// Alternatives, where a value has one of several shapes. The other fields
	// then mean nothing.
	Alternatives []*Shape

	types []reflect.Type // of a mapping: what it is decoded into
}

// Field is one key of a mapping.
type Field struct {
	Key      string
	Required bool
	Shown    bool   // the traced file has it
	Own      bool   // only mappings of this case have it
	Of       string // the Go type that has the key
	Shape    *Shape
}

// Shape returns what the whole file may be, as far as the trace has seen it.
func (t *Trace) Shape() *Shape { return t.shape(t.root) }

// shape is what a value may be by all that it has been decoded into; except
// says which type not to look at.
func (t *Trace) shape(n *node, except ...reflect.Type) *Shape {
	var all *Shape
	for _, u := range t.seen[n.spot()] {
		if !slices.Contains(except, u.typ) {
			all = meet(all, t.typed(u.typ, u.before, u.options, n))
		}
	}
	switch {
	case all != nil && all.known():
		if all.Form == MappingForm && len(all.types) > 1 {
			all.divide(n)
		}
		return all
	case n.kind == List: // whose items were decoded one by one
		return t.typed(reflect.TypeFor[[]*Section](), reflect.Value{}, options{}, n).ifKnown()
	case n.kind == Mapping:
		return t.typed(namedType, reflect.Value{}, options{}, n).ifKnown()
	}
	return &Shape{}
}

func (s *Shape) ifKnown() *Shape {
	if s.Items == nil || !s.Items.known() {
		return &Shape{}
	}
	return s
}

// typed is what a type takes; n is an example of it, or nil.
func (t *Trace) typed(typ reflect.Type, value reflect.Value, o options, n *node) *Shape {
	for typ.Kind() == reflect.Pointer && typ != sectionType {
		typ = typ.Elem()
		if value.IsValid() && !value.IsNil() {
			value = value.Elem()
		} else {
			value = reflect.Value{}
		}
	}
	if !value.IsValid() {
		value = reflect.New(typ).Elem()
	}
	switch {
	case typ == sectionType:
		return &Shape{}
	case typ == namedType:
		s := &Shape{Form: NamedForm}
		if n != nil {
			for _, e := range n.entries {
				s.Items = join(s.Items, t.shape(e.value))
			}
		}
		return s
	case isScalar(typ):
		return scalarShape(typ, value, o)
	case typ.Kind() == reflect.Struct:
		s := &Shape{Form: MappingForm, types: []reflect.Type{typ}}
		for _, f := range fields(value) {
			field := t.field(f, n)
			field.Of = typ.String()
			s.Fields = append(s.Fields, field)
		}
		return s
	case typ.Kind() == reflect.Slice:
		s := &Shape{Form: ListForm, Items: t.typed(typ.Elem(), reflect.Value{}, o, nil),
			Single: isScalar(typ.Elem()) || typ.Elem() == sectionType, Default: written(value)}
		if n != nil {
			items := n.items
			if n.kind == Scalar {
				items = []*node{n}
			}
			for _, item := range items {
				if item != n || typ.Elem() == sectionType {
					s.Items = join(s.Items, t.shape(item, typ))
				}
			}
		}
		return s
	case typ.Kind() == reflect.Map:
		s := &Shape{Form: NamedForm, Items: t.typed(typ.Elem(), reflect.Value{}, o, nil)}
		if n != nil {
			for _, e := range n.entries {
				s.Items = join(s.Items, t.shape(e.value))
			}
		}
		return s
	}
	return &Shape{}
}

func (t *Trace) field(f field, n *node) *Field {
	out := &Field{Key: f.key, Required: f.required}
	out.Shape = t.typed(f.value.Type(), f.value, f.options, nil)
	if n == nil {
		return out
	}
	if i := n.index(f.key); i >= 0 {
		out.Shown = true
		child := n.entries[i].value
		if seen := t.shape(child); child.kind != Null && seen.known() {
			out.Shape = seen
		}
	}
	return out
}

func (s *Shape) known() bool { return s.Form != AnyForm || s.Alternatives != nil }

// divide notes which of the keys decides about the others: of the types that
// share the mapping the first one has it, a required text.
func (s *Shape) divide(n *node) {
	for _, f := range fields(reflect.New(s.types[0]).Elem()) {
		if i := n.index(f.key); f.required && f.value.Kind() == reflect.String && i >= 0 {
			s.CaseKey, s.Case = f.key, n.entries[i].value.value
			return
		}
	}
}

// meet is what fits both shapes of one and the same value.
func meet(a, b *Shape) *Shape {
	switch {
	case a == nil || !a.known():
		return b
	case !b.known():
		return a
	case a.Form == MappingForm && b.Form == MappingForm:
		for _, f := range b.Fields {
			if a.key(f.Key) == nil {
				f.Own = true
				a.Fields = append(a.Fields, f)
			}
		}
		a.types = append(a.types, b.types...)
		return a
	case b.Form == ListForm && b.Single && a.scalar(), // one item of a list, looked at alone
		a.Form == TextForm && a.OneOf == nil && b.scalar():
		return b
	}
	return a
}

func (s *Shape) scalar() bool { return s.Form > AnyForm && s.Form < MappingForm }

// key returns the field of a mapping with the key, or nil.
func (s *Shape) key(key string) *Field {
	i := slices.IndexFunc(s.Fields, func(f *Field) bool { return f.Key == key })
	if i < 0 {
		return nil
	}
	return s.Fields[i]
}

// Join returns the shape of values that have either of two shapes.
func Join(a, b *Shape) *Shape { return join(a, b) }

func join(a, b *Shape) *Shape {
	switch {
	case a == nil || !a.known():
		return b
	case b == nil || !b.known():
		return a
	case a.Alternatives != nil || b.Alternatives != nil || !a.same(b):
		out := &Shape{Alternatives: slices.Clone(a.options())}
		for _, o := range b.options() {
			i := slices.IndexFunc(out.Alternatives, func(s *Shape) bool { return s.same(o) })
			if i < 0 {
				out.Alternatives = append(out.Alternatives, o)
			} else {
				out.Alternatives[i] = join(out.Alternatives[i], o)
			}
		}
		out.share()
		return out
	}
	out := *a
	if a.Default != b.Default {
		out.Default = ""
	}
	out.Single = a.Single || b.Single
	out.Items = join(a.Items, b.Items)
	out.Fields = nil
	for _, f := range a.Fields {
		if g := b.key(f.Key); g != nil {
			f = joinFields(f, g)
		}
		out.Fields = append(out.Fields, f)
	}
	for _, g := range b.Fields {
		if a.key(g.Key) == nil {
			out.Fields = append(out.Fields, g)
		}
	}
	return &out
}

func joinFields(f, g *Field) *Field {
	both := *f
	both.Shown = f.Shown || g.Shown
	switch { // what was seen says more than what follows from the type
	case f.Shown && !g.Shown && !f.Shape.scalar():
	case g.Shown && !f.Shown && !f.Shape.scalar():
		both.Shape = g.Shape
	default:
		both.Shape = join(f.Shape, g.Shape)
	}
	return &both
}

// share makes one field of each that several cases have in common.
func (s *Shape) share() {
	common := map[string]*Field{}
	each := func(do func(f **Field)) {
		for _, o := range s.Alternatives {
			for i := range o.Fields {
				if o.CaseKey != "" && !o.Fields[i].Own {
					do(&o.Fields[i])
				}
			}
		}
	}
	each(func(f **Field) {
		if c := common[(*f).Key]; c != nil {
			*f = joinFields(c, *f)
		}
		common[(*f).Key] = *f
	})
	each(func(f **Field) { *f = common[(*f).Key] })
}

func (s *Shape) options() []*Shape {
	if s.Alternatives != nil {
		return s.Alternatives
	}
	return []*Shape{s}
}

// same reports whether two shapes are one as far as more examples of it add to
// it, rather than being another one.
func (s *Shape) same(o *Shape) bool {
	return s.Alternatives == nil && o.Alternatives == nil && s.Form == o.Form && s.Case == o.Case &&
		slices.Equal(s.types, o.types) && slices.Equal(s.OneOf, o.OneOf) && s.Min == o.Min && s.Max == o.Max
}

func scalarShape(t reflect.Type, value reflect.Value, o options) *Shape {
	s := &Shape{OneOf: o.oneof, Min: o.min, Max: o.max, Default: written(value)}
	if word, ok := value.Interface().(interface{ OneOf() []string }); ok {
		s.OneOf = word.OneOf()
	}
	switch {
	case t == durationType || t == reflect.TypeFor[Duration]():
		s.Form = DurationForm
	case t == reflect.TypeFor[Size]():
		s.Form = SizeForm
	case t == pathType:
		s.Form = PathForm
	case t == secretType:
		s.Form, s.Default = SecretForm, ""
	case t == exprType:
		s.Form, s.Default = ExprForm, ""
	case reflect.PointerTo(t).Implements(unmarshalerType):
		s.Form = WordForm
	case t.Kind() == reflect.Bool:
		s.Form = TruthForm
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		s.Form = NumberForm
	case isNumber(t):
		s.Form = IntegerForm
		if bits := t.Bits(); t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
			s.Min = cmp.Or(s.Min, "0")
			if s.Max == "" && bits < 64 {
				s.Max = strconv.FormatUint(1<<bits-1, 10)
			}
		}
	default:
		s.Form = TextForm
	}
	return s
}

// written returns a default as one would write it; "" for one that is zero,
// except for false.
func written(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case v.IsZero():
		return ""
	case v.Kind() == reflect.Slice:
		var all []string
		for i := range v.Len() {
			item := written(v.Index(i))
			if item == "" {
				return ""
			}
			all = append(all, quoteText(item))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case v.Type() == durationType:
		return Duration(v.Int()).String()
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	switch {
	case v.Kind() == reflect.String:
		return v.String()
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	case v.CanFloat():
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	}
	return ""
}

// quoteText quotes what would not be read back as text.
func quoteText(s string) string {
	if strings.ContainsAny(s, "#:{}[],&*!|>'\"%@`") {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return s
}
