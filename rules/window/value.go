package window

import (
	"math"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Kind is the type of a Value.
type Kind uint8

// The kinds of values. Rows hold the first four; lists and records are results.
const (
	Null Kind = iota
	Number
	Text
	Bool
	List
	Record
)

// Value is what goes into an aggregate or comes out of it.
type Value struct {
	Kind  Kind
	Num   float64 // of a Number; 1 for true and 0 for false of a Bool
	Text  string  // of a Text
	Items *Items  // of a List or Record
}

// Items are the parts of a list, or those of a record with their names.
type Items struct {
	Names  []string // nil for a list
	Values []Value
}

// Num returns f as a value.
func Num(f float64) Value { return Value{Kind: Number, Num: f} }

// Str returns s as a value.
func Str(s string) Value { return Value{Kind: Text, Text: s} }

// Truth returns b as a value.
func Truth(b bool) Value {
	if b {
		return Value{Kind: Bool, Num: 1}
	}
	return Value{Kind: Bool}
}

func listOf(values []Value) Value { return Value{Kind: List, Items: &Items{Values: values}} }

func recordOf(names []string, values ...Value) Value {
	return Value{Kind: Record, Items: &Items{Names: names, Values: values}}
}

// Any returns v as a Go value: nil, float64, string, bool, []any or
// map[string]any.
func (v Value) Any() any {
	switch v.Kind {
	case Number:
		return v.Num
	case Text:
		return v.Text
	case Bool:
		return v.Num != 0
	case List:
		all := make([]any, len(v.Items.Values))
		for i, item := range v.Items.Values {
			all[i] = item.Any()
		}
		return all
	case Record:
		all := make(map[string]any, len(v.Items.Names))
		for i, name := range v.Items.Names {
			all[name] = v.Items.Values[i].Any()
		}
		return all
	}
	return nil
}

// keep makes dst a copy of v with memory of its own: a text may be a part of a
// payload, which must not stay in memory for as long as a window is open.
func (v *Value) keep(from *Value) {
	if from.Kind == Text && v.Kind == Text && v.Text == from.Text {
		return
	}
	*v = *from
	if from.Kind == Text {
		v.Text = strings.Clone(from.Text)
	}
}

// hash tells values apart, the kind included. -0 is 0.
func (v *Value) hash() uint64 {
	switch v.Kind {
	case Text:
		return xxhash.Sum64String(v.Text)
	case Number:
		return mix(math.Float64bits(v.Num + 0))
	case Bool:
		return mix(^uint64(v.Num)) // bits that no number has: they are NaN
	}
	return 0
}

// mix spreads the bits of n (the finalizer of SplitMix64).
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
