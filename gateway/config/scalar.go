package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// scalar decodes a single value and checks it against its tag.
func (d *decoder) scalar(s *Section, v reflect.Value, o options) {
	switch n := s.node; {
	case n.kind == Null:
		d.errorf(s, "%s has no value; give it one or remove the key", s.label())
		return
	case n.kind != Scalar:
		err := s.Errorf("", "%s must be %s, not %v", s.label(), describe(v.Type()), n.kind)
		if v.Type() == secretType {
			err.Source = mask(err.Source, n, err)
		}
		d.errs = append(d.errs, err)
		return
	case v.Type() == exprType:
		first := n.places()[0]
		v.Set(reflect.ValueOf(Expr{Text: n.value, Pos: Pos{n.file.name, first.line, first.col}, node: n}))
		return
	}
	text, ok := d.expand(s.node, v.Type() == secretType)
	if !ok {
		return
	}
	if v.Type() == secretType {
		v.Set(reflect.ValueOf(NewSecret(text)))
		return
	}
	if v.Type() == pathType {
		text = s.node.file.path(text)
	}
	if err := parse(text, v); err != nil {
		d.errorf(s, "%s: %v", s.label(), err)
		return
	}
	if k := v.Kind(); s.node.quoted() && text == s.node.value && (k == reflect.Bool || isNumber(v.Type())) {
		d.errorf(s, "%s must be %s, not text; remove the quotes", s.label(), describe(v.Type()))
		return
	}
	d.check(s, text, v, o)
}

// check applies the options of the tag.
func (d *decoder) check(s *Section, text string, v reflect.Value, o options) {
	if o.oneof != nil && !slices.Contains(o.oneof, text) {
		hint := "; it must be one of " + strings.Join(o.oneof, ", ")
		if near := Nearest(text, o.oneof); near != "" {
			hint = fmt.Sprintf(", did you mean %q?", near)
		}
		d.errorf(s, "%s: %q is not known%s", s.label(), text, hint)
	}
	if o.min != "" && compare(v, o.min) < 0 {
		d.errorf(s, "%s must be at least %s, not %s", s.label(), o.min, text)
	}
	if o.max != "" && compare(v, o.max) > 0 {
		d.errorf(s, "%s must be at most %s, not %s", s.label(), o.max, text)
	}
}

// compare compares a number with a limit from a tag.
func compare(v reflect.Value, limit string) int {
	w := reflect.New(v.Type()).Elem()
	if err := parse(limit, w); err != nil {
		panic(fmt.Sprintf("config: limit %q: %v", limit, err))
	}
	order := func(less, more bool) int {
		switch {
		case less:
			return -1
		case more:
			return 1
		}
		return 0
	}
	switch {
	case v.CanInt():
		return order(v.Int() < w.Int(), v.Int() > w.Int())
	case v.CanUint():
		return order(v.Uint() < w.Uint(), v.Uint() > w.Uint())
	case v.CanFloat():
		return order(v.Float() < w.Float(), v.Float() > w.Float())
	}
	panic(fmt.Sprintf("config: %v has no limits", v.Type()))
}

// parse reads text by the type of v.
func parse(text string, v reflect.Value) error {
	t := v.Type()
	if t == durationType {
		dur, err := ParseDuration(text)
		v.SetInt(int64(dur))
		return err
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	problem := fmt.Errorf("%q is not %s", text, describe(t))
	switch {
	case t.Kind() == reflect.String:
		v.SetString(text)
	case t.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	case v.CanInt():
		i, err := strconv.ParseInt(text, 10, t.Bits())
		if err != nil {
			return problem
		}
		v.SetInt(i)
	case v.CanUint():
		i, err := strconv.ParseUint(text, 10, t.Bits())
		if err != nil {
			return problem
		}
		v.SetUint(i)
	case v.CanFloat():
		f, err := strconv.ParseFloat(text, t.Bits())
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return problem
		}
		v.SetFloat(f)
	default:
		panic(fmt.Sprintf("config: cannot decode into %v", t))
	}
	return nil
}

func isNumber(t reflect.Type) bool {
	k := t.Kind()
	return k >= reflect.Int && k <= reflect.Float64 && t != durationType && !reflect.PointerTo(t).Implements(unmarshalerType)
}

// describe names what a type takes, for messages.
func describe(t reflect.Type) string {
	switch {
	case t == durationType || t == reflect.TypeFor[Duration]():
		return "a duration such as 30s"
	case t == reflect.TypeFor[Size]():
		return "a size such as 64KiB"
	case t == pathType:
		return "a path"
	case t == exprType:
		return "an expression"
	case !isNumber(t) && t.Kind() != reflect.Bool:
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return "a number"
	}
	if t.Kind() == reflect.Int {
		return "a whole number" // of a size that depends on the machine
	}
	if bits := t.Bits(); t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		return fmt.Sprintf("a whole number from 0 to %d", uint64(math.MaxUint64)>>(64-bits))
	} else if bits < 64 {
		return fmt.Sprintf("a whole number from %d to %d", -1<<(bits-1), 1<<(bits-1)-1)
	}
	return "a whole number"
}
