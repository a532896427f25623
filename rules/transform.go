package rules

import (
	"slices"
	"unsafe"

	"holdfast/rules/codec"
)

// transform changes a payload that is passed on: fields are dropped, renamed
// and added.
type transform struct {
	drop   []string // set fields included: they take the place
	rename map[string][]byte
	names  [][]byte // quoted, of what set adds
}

// transform returns nil if the payload passes as it is.
func (c *ruleCompiler) transform() *transform {
	sp := c.sp
	if len(sp.sets)+len(sp.Drop)+len(sp.renames) == 0 || !slices.ContainsFunc(sp.outputs, sp.passesOn) {
		return nil
	}
	t := &transform{drop: slices.Clone(sp.Drop), rename: map[string][]byte{}}
	for _, r := range sp.renames {
		t.rename[r.from] = appendString(nil, r.to)
		t.drop = append(t.drop, r.to)
	}
	for _, s := range sp.sets {
		t.names = append(t.names, appendString(nil, s.name))
		t.drop = append(t.drop, s.name)
	}
	return t
}

// apply makes the payload of the event at hand. A payload that is no object
// becomes the field value of one.
func (t *transform) apply(r *rule) ([]byte, error) {
	f := r.frame
	in, format := f.ev.Payload, f.format()
	if format != codec.JSON {
		var err error
		if in, err = format.AppendJSON(nil, in); err != nil {
			return nil, &payloadError{err}
		}
	} else if err := codec.Check(in); err != nil {
		return nil, &payloadError{err}
	}
	b := make([]byte, 0, len(in)+32*len(t.names)+16)
	b = append(b, '{')
	put := func(quoted, value string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(b, quoted...), ':')
		b = appendRaw(b, value)
	}
	text := unsafe.String(unsafe.SliceData(in), len(in))
	object := codec.Fields(text, func(name, quoted, value string) {
		if to := t.rename[name]; to != nil {
			put(string(to), value)
		} else if !slices.Contains(t.drop, name) {
			put(quoted, value)
		}
	})
	if !object && !slices.Contains(t.drop, "value") {
		name := []byte(`"value"`)
		if to := t.rename["value"]; to != nil {
			name = to
		}
		put(string(name), codec.Trim(text))
	}
	for i, v := range r.vars {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(b, t.names[i]...), ':')
		value, err := v.get(f)
		if err != nil {
			return nil, err
		}
		if p := v.program; p.slot != nil && p.slot.Raw != "" {
			b = appendRaw(b, p.slot.Raw)
		} else if b, err = appendJSON(b, value); err != nil {
			return nil, p.wrap(err)
		}
	}
	return append(b, '}'), nil
}

// variable is a value of set: worked out once for an event, when it is first
// asked for.
type variable struct {
	program *program
	kind    kind
	taken   uint64 // the frame's pass
	value   any
	err     error
}

func (v *variable) get(f *frame) (any, error) {
	if v.taken == f.pass {
		return v.value, v.err
	}
	v.taken = f.pass
	v.value, v.err = v.program.run()
	if v.kind == number && v.err == nil {
		if n, ok := toNumber(v.value); ok {
			v.value = n
		}
	}
	return v.value, v.err
}
