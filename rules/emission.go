package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// emission makes events of what passes a rule: one of its outputs.
type emission struct {
	what     string // emit, or emit[1]
	pos      config.Pos
	stream   string
	where    *program // nil: always
	topic    template
	qos      uint8
	retain   bool
	names    [][]byte   // keys of the payload
	programs []*program // their values
	payload  *program   // instead of an object
	bare     bool       // the payload is passed on, or the record of the pane
}

// template is a topic with placeholders.
type template struct {
	parts   []string
	between []hole // what stands behind each part but the last
	text    string
}

// hole is a placeholder of a template.
type hole struct {
	sort    byte   // t, c or k; 0 for a named level
	capture string // the name
}

var placeholders = []string{"{topic}", "{client}", "{key}", "{rule}"}

// emission compiles an output, except for its programs.
func (c *ruleCompiler) emission(o *outputSpec) emission {
	e := emission{what: o.what, pos: o.section.Errorf("topic", "").Pos, stream: o.Stream, qos: o.QoS, retain: o.Retain, bare: o.bare()}
	var names []string
	for _, f := range o.fields {
		names = append(names, f.name)
	}
	e.names = fieldNames(names)
	source := o.Topic
	if source.IsZero() {
		if c.sp.Window != nil || c.sp.source.text != "" {
			if o.section.Kind() == config.Mapping {
				reason := "the events of a window may have had many"
				if c.sp.Window == nil {
					reason = "a timer has none"
				}
				c.errs = append(c.errs, o.section.Errorf("", "emit needs a topic: %s", reason))
			}
			return e
		}
		source.Text = "{topic}"
	}
	e.topic = c.template(source)
	return e
}

// paneFields are the keys of the payload that a window emits by default.
func (c *ruleCompiler) paneFields() [][]byte {
	var names []string
	for _, col := range c.sp.columns {
		names = append(names, col.name)
	}
	if !c.sp.Key.IsZero() {
		names = append(names, "key")
	}
	return fieldNames(append(names, "start", "end", "early", "expired"))
}

func (c *ruleCompiler) template(source config.Expr) template {
	var t template
	part, sample := "", ""
	captures := c.sp.source.captures()
	known := slices.Clone(placeholders)
	for _, name := range captures {
		known = append(known, "{"+name+"}")
	}
	fail := func(offset, width int, format string, args ...any) {
		c.errs = append(c.errs, source.At(offset, width, format, args...))
	}
	put := func(h hole) {
		t.parts, t.between = append(t.parts, part), append(t.between, h)
		sample += part + "x"
		part = ""
	}
	for rest := source.Text; rest != ""; {
		offset := len(source.Text) - len(rest)
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			part += rest
			break
		}
		part, rest, offset = part+rest[:i], rest[i:], offset+i
		end := strings.IndexByte(rest, '}')
		if rest[0] == '}' || end < 0 {
			fail(offset, 1, "this brace is not part of a placeholder; known are %s", strings.Join(known, ", "))
			return t
		}
		word := rest[:end+1]
		name := word[1:end]
		capture := slices.Contains(captures, name)
		switch {
		case word == "{rule}":
			part += c.sp.Name
		case word == "{key}" && c.sp.Key.IsZero():
			fail(offset, len(word), "{key} needs the rule to have a key")
		case (word == "{topic}" || word == "{client}" || capture) && c.sp.Window != nil:
			fail(offset, len(word), "a window has no single %s: its events may have had many; use {key}", word)
		case (word == "{topic}" || word == "{client}") && c.sp.source.text != "":
			fail(offset, len(word), "a timer has no %s", word)
		case word == "{topic}" || word == "{client}" || word == "{key}":
			put(hole{sort: word[1]})
		case capture:
			put(hole{capture: name})
		case offset > 0 && source.Text[offset-1] == '$':
			fail(offset-1, len(word)+1, "${…} is not replaced here; known are %s", strings.Join(known, ", "))
		default:
			fail(offset, len(word), "the placeholder %s is not known%s; known are %s", word,
				didYouMean(word, known), strings.Join(known, ", "))
		}
		rest = rest[end+1:]
	}
	t.parts = append(t.parts, part)
	sample += part
	if err := event.CheckTopic(sample); err != nil {
		fail(0, len(source.Text), "%v", err)
	} else if sample[0] == '$' {
		fail(0, len(source.Text), "%v", errReserved)
	}
	return t
}

var errReserved = errors.New("topics that begin with $ are reserved for the broker itself")

// passesOn reports whether the template is just {topic}.
func (t *template) passesOn() bool {
	return len(t.between) == 1 && t.between[0].sort == 't' && t.parts[0] == "" && t.parts[1] == ""
}

// fill puts the topic together.
func (t *template) fill(r *rule, topic, client, key string) (string, error) {
	switch {
	case len(t.between) == 0:
		return t.parts[0], nil
	case t.passesOn():
		return topic, nil
	}
	b := make([]byte, 0, 64)
	for i, part := range t.parts {
		b = append(b, part...)
		if i == len(t.between) {
			break
		}
		switch h := t.between[i]; h.sort {
		case 't':
			b = append(b, topic...)
		case 'c':
			b = append(b, client...)
		case 'k':
			b = append(b, key...)
		default:
			level, err := r.capture(h.capture)
			if err != nil {
				return "", err
			}
			b = append(b, level...)
		}
	}
	s := string(b)
	if err := event.CheckTopic(s); err != nil {
		return "", err
	}
	if s[0] == '$' {
		return "", fmt.Errorf("%q: %w", s, errReserved)
	}
	return s, nil
}

// object builds the JSON object of the fields.
func (e *emission) object() ([]byte, error) {
	b := make([]byte, 0, 64+16*len(e.programs))
	for i, p := range e.programs {
		b = append(b, e.names[i]...)
		var err error
		if b, err = p.appendTo(b); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// appendTo appends the value of the program as JSON: of a field as it was
// written.
func (p *program) appendTo(b []byte) ([]byte, error) {
	v, err := p.run()
	if err != nil {
		return b, err
	}
	return p.append(b, v)
}

// append appends a value that the program gave for the event at hand.
func (p *program) append(b []byte, v any) ([]byte, error) {
	if p.slot != nil && p.slot.Raw != "" {
		return appendRaw(b, p.slot.Raw), nil
	}
	b, err := appendJSON(b, v)
	if err != nil {
		return b, p.wrap(err)
	}
	return b, nil
}

// content builds the payload that the output makes.
func (e *emission) content() (payload []byte, contentType string, err error) {
	if e.payload == nil {
		payload, err = e.object()
		return payload, jsonType, err
	}
	v, err := e.payload.run()
	if err != nil {
		return nil, "", err
	}
	if s, ok := v.(string); ok {
		return []byte(s), "text/plain", nil
	}
	payload, err = e.payload.append(nil, v)
	return payload, jsonType, err
}

const jsonType = "application/json"

// event makes an output for the event at hand.
func (r *rule) event(o *emission) (event.Event, error) {
	f, in := r.frame, r.frame.ev
	out := event.Event{Source: "rule", Client: r.Name, Key: in.Key, QoS: o.qos, Retain: o.retain, Trace: in.Trace}
	var err error
	if out.Time, err = r.happened(); err != nil {
		return out, err
	}
	if r.key != nil {
		if out.Key, err = r.key.text(); err != nil {
			return out, err
		}
	}
	if out.Topic, err = o.topic.fill(r, in.Topic, in.Client, out.Key); err != nil {
		return out, &evalError{o.what + ".topic", o.pos, err}
	}
	switch {
	case !o.bare:
		out.Payload, out.ContentType, err = o.content()
	case r.transform != nil:
		out.Payload, err = r.transform.apply(r)
		out.ContentType, out.Properties = jsonType, in.Properties
	case r.timer != nil:
		out.Payload, out.ContentType = append(appendTime([]byte(`{"time":`), in.Time.Std()), '}'), jsonType
	default:
		out.Payload, out.ContentType, out.Properties = in.Payload, f.contentType(), in.Properties
	}
	if r.timer == nil {
		out.Cause = r.cause()
	}
	return out, err
}

// cause names the event of the log that the event at hand comes from.
func (r *rule) cause() *event.ID {
	in := r.frame.ev
	if in.Offset == 0 && in.Cause != nil {
		return in.Cause // it was emitted in this step
	}
	return &event.ID{Epoch: in.Epoch, Stream: r.Root, Offset: in.Offset}
}

// pane makes an output for the frame's pane. On an error the event holds all
// that is known of the pane, as its record.
func (r *rule) pane(o *emission) (event.Event, error) {
	p := r.frame.pane
	out := event.Event{Source: "rule", Client: r.Name, Key: p.Key, Time: p.End,
		QoS: o.qos, Retain: o.retain, ContentType: jsonType,
		Cause: &event.ID{Epoch: p.Epoch, Stream: r.Root, Offset: p.Offset}}
	var err error
	if out.Topic, err = o.topic.fill(r, "", "", p.Key); err != nil {
		err = &evalError{o.what + ".topic", o.pos, err}
	} else if o.bare {
		out.Payload, err = r.record(p)
	} else {
		out.Payload, out.ContentType, err = o.content()
	}
	if err != nil {
		out.Topic, out.ContentType = r.Name, jsonType
		out.Payload, _ = r.record(p)
	}
	return out, err
}

// record is the payload of a pane unless the rule names fields: all aggregates,
// the key if there is one, start and end, and early or expired if it is so.
func (r *rule) record(p *window.Pane) (b []byte, err error) {
	names := r.win.names
	b = make([]byte, 0, 96+24*len(names))
	for i, v := range p.Values {
		b = append(b, names[i]...)
		var bad error
		if b, bad = appendJSON(b, v.Any()); bad != nil {
			b = append(b, "null"...) // a sum beyond the range of numbers
			err = fmt.Errorf("aggregate %s: %w", names[i][1:len(names[i])-1], bad)
		}
	}
	i := len(p.Values)
	if r.key != nil {
		b = appendString(append(b, names[i]...), p.Key)
		i++
	}
	b = appendTime(append(b, names[i]...), p.Start.Std())
	b = appendTime(append(b, names[i+1]...), p.End.Std())
	if p.Early {
		b = append(append(b, names[i+2]...), "true"...)
	}
	if p.Expired {
		b = append(append(b, names[i+3]...), "true"...)
	}
	return append(b, '}'), err
}
