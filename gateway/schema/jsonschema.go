package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"

	"holdfast/gateway/config"
)

const dialect = "https://json-schema.org/draft/2020-12/schema"

// object is a JSON object; its keys are written in alphabetical order.
type object map[string]any

// JSON returns the JSON Schema (draft 2020-12) of a configuration.
//
// It finds what the shape of a file decides: unknown and missing keys, values
// of the wrong type, numbers out of range. It does not read expressions, and
// the limits of durations and sizes with a unit stand in descriptions only.
func (s *Schema) JSON() ([]byte, error) {
	rule, err := s.Rule()
	if err != nil {
		return nil, err
	}
	g := &generator{s: s, rule: rule, ref: "#/$defs/rule"}
	o := g.shape(s.Shape)
	g.define(o)
	o["$defs"].(object)["rule"] = g.mapping(rule, rule.Fields)
	return encode(o, "Configuration of Holdfast")
}

// RulesJSON returns the JSON Schema of a file with rules: a list of them, a
// mapping with that list as rules, or one rule.
func (s *Schema) RulesJSON() ([]byte, error) {
	rule, err := s.Rule()
	if err != nil {
		return nil, err
	}
	g := &generator{s: s}
	one := object{"$ref": "#/$defs/rule"}
	list := object{"type": []string{"array", "null"}, "items": one}
	// With if and else, mistakes are those of the form that was meant.
	o := object{
		"if":   object{"type": []string{"array", "null"}},
		"then": list,
		"else": object{
			"if":   object{"type": "object", "required": []string{"rules"}},
			"then": object{"properties": object{"rules": list}, "additionalProperties": false},
			"else": one,
		},
	}
	g.define(o)
	o["$defs"].(object)["rule"] = g.mapping(rule, rule.Fields)
	return encode(o, "Rules of Holdfast")
}

// TestsJSON returns the JSON Schema of a file with tests of rules, if s is of
// [Tests].
func (s *Schema) TestsJSON() ([]byte, error) {
	g := &generator{s: s, names: map[string]string{"rulestest.testSpec": "test", "rulestest.stepSpec": "step", "rulestest.expectSpec": "expected"}}
	o := g.shape(s.Shape)
	g.define(o)
	maps.Copy(o["$defs"].(object), g.named)
	return encode(o, "Tests of rules of Holdfast")
}

func encode(o object, title string) ([]byte, error) {
	o["$schema"], o["title"] = dialect, title
	b, err := json.MarshalIndent(o, "", "  ")
	return append(b, '\n'), err
}

type generator struct {
	s    *Schema
	rule *config.Shape // to refer to instead of repeating it; nil for none
	ref  string

	names map[string]string // of mappings that are defined once, by their type
	named object            // these definitions
}

// What all schemas share: how values are written.
const (
	variable = `\$\{`
	duration = `^(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h|d|w))+$`
	size     = `^[0-9]+(\.[0-9]+)? ?(TiB|GiB|MiB|KiB|TB|GB|MB|kB|KB|B)?$`
)

func (g *generator) define(o object) {
	o["$defs"] = object{
		"variable": object{"type": "string", "pattern": variable, "description": "a value with environment variables, as in ${NAME}"},
		"duration": object{"anyOf": []any{
			object{"type": "string", "pattern": duration}, object{"const": 0}, object{"$ref": "#/$defs/variable"}}},
		"size": object{"anyOf": []any{
			object{"type": "string", "pattern": size}, object{"type": "integer", "minimum": 0}, object{"$ref": "#/$defs/variable"}}},
		"text": object{"type": []string{"string", "number", "boolean"}},
	}
}

func ref(name string) object { return object{"$ref": "#/$defs/" + name} }

func (g *generator) shape(s *config.Shape) object {
	switch {
	case s == nil:
		return object{}
	case s == g.rule:
		return object{"$ref": g.ref}
	case s.Alternatives != nil && s.Alternatives[0].CaseKey == "":
		var all []any
		for _, o := range s.Alternatives {
			all = append(all, anyOf(g.shape(o))...)
		}
		return object{"anyOf": distinct(all)}
	case s.Alternatives != nil || s.CaseKey != "":
		return g.cases(options(s))
	}
	switch s.Form {
	case config.MappingForm:
		if len(s.Fields) > 0 && g.names[s.Fields[0].Of] != "" {
			return g.once(g.names[s.Fields[0].Of], s)
		}
		return g.mapping(s, s.Fields)
	case config.NamedForm:
		return object{"type": []string{"object", "null"}, "additionalProperties": g.shape(s.Items)}
	case config.ListForm:
		list := object{"type": []string{"array", "null"}, "items": g.shape(s.Items)}
		if s.Single {
			return object{"anyOf": []any{list, g.shape(s.Items)}}
		}
		return list
	case config.AnyForm:
		return object{}
	}
	return g.scalar(s)
}

// once refers to a mapping and defines it, unless that was done.
func (g *generator) once(name string, s *config.Shape) object {
	if g.named == nil {
		g.named = object{}
	}
	if g.named[name] == nil {
		g.named[name] = object{} // it may hold itself
		g.named[name] = g.mapping(s, s.Fields)
	}
	return ref(name)
}

// anyOf are the schemas of which one that is nothing but a choice chooses.
func anyOf(o object) []any {
	if all, ok := o["anyOf"].([]any); ok && len(o) == 1 {
		return all
	}
	return []any{o}
}

func distinct(all []any) (out []any) {
	for _, a := range all {
		if !slices.ContainsFunc(out, func(b any) bool { return reflect.DeepEqual(a, b) }) {
			out = append(out, a)
		}
	}
	return out
}

// mapping takes the given fields and no others.
func (g *generator) mapping(s *config.Shape, fields []*config.Field) object {
	properties, required := object{}, []string{}
	for _, f := range fields {
		properties[f.Key] = g.field(f)
		if f.Required {
			required = append(required, f.Key)
		}
	}
	o := object{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		o["required"] = required
		o["type"] = "object"
	}
	return o
}

// cases are mappings in which one key decides about the others. Each case has
// all of its keys, so that editors that know if and then complete them.
func (g *generator) cases(all []*config.Shape) object {
	key := all[0].CaseKey
	var names []string
	var branches []any
	for _, s := range all {
		names = append(names, s.Case)
		then := g.mapping(s, s.Fields)
		properties := then["properties"].(object)
		properties[key] = object{"const": s.Case}
		branches = append(branches, object{
			"if":   object{"properties": object{key: object{"const": s.Case}}, "required": []string{key}},
			"then": then,
		})
	}
	which := object{"enum": names}
	for _, f := range all[0].Fields {
		if f.Key == key {
			g.describe(which, f)
		}
	}
	return object{"type": "object", "properties": object{key: which}, "required": []string{key}, "allOf": branches}
}

func (g *generator) field(f *config.Field) object {
	o := g.shape(f.Shape)
	if types, ok := o["type"].([]string); ok && f.Required { // nothing is not enough
		o["type"] = types[0]
	}
	g.describe(o, f)
	return o
}

// describe adds the text of a field.
func (g *generator) describe(o object, f *config.Field) {
	k := Key{Field: f}
	if t := g.s.texts[f]; t != nil {
		k.Text = *t
	}
	if text := k.description(); text != "" {
		o["description"] = text
	}
	if k.Default == "" && f.Shape.Default != "" {
		if value, ok := native(f.Shape); ok {
			o["default"] = value
		}
	}
}

// native is a default as a value of JSON.
func native(s *config.Shape) (any, bool) {
	switch s.Form {
	case config.TruthForm:
		return s.Default == "true", true
	case config.IntegerForm, config.NumberForm:
		return json.Number(s.Default), true
	case config.ListForm, config.MappingForm, config.NamedForm:
		return nil, false
	}
	return s.Default, true
}

func (g *generator) scalar(s *config.Shape) object {
	if s.OneOf != nil {
		var values []any
		for _, v := range s.OneOf {
			number := json.Valid([]byte(v)) && v[0] != '"'
			if number {
				values = append(values, json.Number(v)) // text too may be written without quotes
			}
			if !number || s.Form == config.TextForm || s.Form == config.WordForm {
				values = append(values, v)
			}
		}
		return object{"anyOf": []any{object{"enum": values}, ref("variable")}}
	}
	switch s.Form {
	case config.TruthForm:
		return object{"anyOf": []any{object{"type": "boolean"}, ref("variable")}}
	case config.IntegerForm, config.NumberForm:
		o := object{"type": "integer"}
		if s.Form == config.NumberForm {
			o["type"] = "number"
		}
		if s.Min != "" {
			o["minimum"] = json.Number(s.Min)
		}
		if s.Max != "" {
			o["maximum"] = json.Number(s.Max)
		}
		return object{"anyOf": []any{o, ref("variable")}}
	case config.DurationForm:
		return ref("duration")
	case config.SizeForm:
		return ref("size")
	}
	return ref("text")
}

// description is the text of a key with its limits, as one paragraph.
func (k Key) description() string {
	text := sentence(k.Text.Text)
	if limits := limits(k.Shape); limits != "" {
		text = join2(text, sentence(limits))
	}
	if k.Default != "" {
		text = join2(text, sentence("Default: "+k.Default))
	}
	return text
}

func join2(a, b string) string {
	if a == "" {
		return b
	}
	return a + " " + b
}

var (
	ends      = regexp.MustCompile(`[.!?:]$`)
	plainWord = regexp.MustCompile(`^[a-z]+[ ,;.]`) // not a value such as drop_oldest
)

// sentence begins a text with a capital letter and ends it with a dot.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	if plainWord.MatchString(text) {
		text = string(text[0]-'a'+'A') + text[1:]
	}
	if !ends.MatchString(text) {
		text += "."
	}
	return text
}

// limits says what the type cannot.
func limits(s *config.Shape) string {
	if s.Form != config.DurationForm && s.Form != config.SizeForm {
		return ""
	}
	return bounds(s)
}

// bounds words the least and the most of a value.
func bounds(s *config.Shape) string {
	least, most := s.Min, s.Max
	if zero(least) {
		least = ""
	}
	switch {
	case least != "" && most != "":
		return fmt.Sprintf("from %s to %s", least, most)
	case least != "":
		return "at least " + least
	case most != "":
		return "at most " + most
	}
	return ""
}

func zero(limit string) bool {
	n, err := strconv.ParseFloat(limit, 64)
	return limit == "0s" || err == nil && math.Abs(n) == 0
}
