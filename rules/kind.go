package rules

import (
	"math"
	"reflect"
	"strings"
	"time"

	"holdfast/rules/window"
)

// kind is the type of a value in expressions, in the words of rule files.
type kind uint8

const (
	anything kind = iota // known only once there is a value
	number
	text
	truth
	instant
	duration
	list
	mapping
)

// String names the kind with its article, for messages.
func (k kind) String() string {
	return [...]string{"anything", "a number", "text", "true or false", "a time", "a duration", "a list", "a mapping"}[k]
}

// article returns the kind as in "is used as …".
func (k kind) article() string {
	if k == truth {
		return "a truth value"
	}
	return k.String()
}

// goType returns the Go type that stands for the kind in compiled expressions.
func (k kind) goType() reflect.Type {
	switch k {
	case number:
		return reflect.TypeFor[float64]()
	case text:
		return reflect.TypeFor[string]()
	case truth:
		return reflect.TypeFor[bool]()
	case instant:
		return reflect.TypeFor[time.Time]()
	case duration:
		return reflect.TypeFor[time.Duration]()
	}
	return reflect.TypeFor[any]()
}

// kindOf is the kind of a Go type that an expression results in.
func kindOf(t reflect.Type) kind {
	switch {
	case t == nil:
		return anything
	case t == reflect.TypeFor[time.Time]():
		return instant
	case t == reflect.TypeFor[time.Duration]():
		return duration
	}
	switch t.Kind() {
	case reflect.Bool:
		return truth
	case reflect.String:
		return text
	case reflect.Slice, reflect.Array:
		return list
	case reflect.Map:
		return mapping
	case reflect.Interface:
		return anything
	}
	if k := t.Kind(); k >= reflect.Int && k <= reflect.Float64 {
		return number
	}
	return anything
}

// describe names what v is, for messages about a value of the wrong kind.
func describe(v any) string {
	if v == nil {
		return "nothing"
	}
	if k := kindOf(reflect.TypeOf(v)); k != anything {
		return k.String()
	}
	return "something else"
}

// toNumber returns v as a number, if it is one.
func toNumber(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case time.Duration:
		return n.Seconds(), true
	}
	if r := reflect.ValueOf(v); r.IsValid() {
		switch {
		case r.CanInt():
			return float64(r.Int()), true
		case r.CanUint():
			return float64(r.Uint()), true
		case r.CanFloat():
			return r.Float(), true
		}
	}
	return 0, false
}

// toText returns v as the text of a key: numbers in their shortest form.
func toText(v any) (string, bool) {
	switch s := v.(type) {
	case string:
		return strings.Clone(s), true // it may be a part of a payload
	case bool:
		if s {
			return "true", true
		}
		return "false", true
	}
	if n, ok := toNumber(v); ok && !math.IsNaN(n) && !math.IsInf(n, 0) {
		return string(appendNumber(nil, n)), true
	}
	return "", false
}

// toValue returns v as a value for first and last.
func toValue(v any) (window.Value, bool) {
	switch s := v.(type) {
	case nil:
		return window.Value{}, true
	case string:
		return window.Str(s), true
	case bool:
		return window.Truth(s), true
	}
	n, ok := toNumber(v)
	return window.Num(n), ok
}

// kindOfValue is the kind of a value.
func kindOfValue(v any) kind {
	switch v.(type) {
	case nil:
		return anything
	case float64:
		return number
	case string:
		return text
	case bool:
		return truth
	}
	return kindOf(reflect.TypeOf(v))
}
