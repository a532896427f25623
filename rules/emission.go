package rules

import (
	"errors"
	"fmt"
	"strings"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// emission makes events of what passes a rule.
type emission struct {
	topic    template
	qos      uint8
	retain   bool
	names    [][]byte   // keys of the payload
	programs []*program // their values; none to pass the payload on
}

// template is a topic with placeholders.
type template struct {
	parts   []string
	between []byte // what stands behind each part but the last: t, c or k
}

var placeholders = []string{"{topic}", "{client}", "{key}", "{rule}"}

// emission compiles emit, except for the programs of its fields.
func (c *ruleCompiler) emission() emission {
	sp := c.sp
	e := emission{qos: sp.Emit.QoS, retain: sp.Emit.Retain}
	var names []string
	for _, f := range sp.fields {
		names = append(names, f.name)
	}
	e.names = fieldNames(names)
	source := sp.Emit.Topic
	if source.IsZero() {
		if sp.Window != nil {
			if sp.section.Has("emit") {
				c.errs = append(c.errs, sp.section.Errorf("emit", "emit needs a topic: the events of a window may have had many"))
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
	return fieldNames(append(names, "start", "end"))
}

func (c *ruleCompiler) template(source config.Expr) template {
	var t template
	part, sample := "", ""
	fail := func(offset, width int, format string, args ...any) {
		c.errs = append(c.errs, source.At(offset, width, format, args...))
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
			fail(offset, 1, "this brace is not part of a placeholder; known are %s", strings.Join(placeholders, ", "))
			return t
		}
		word := rest[:end+1]
		switch {
		case word == "{rule}":
			part += c.sp.Name
		case word == "{key}" && c.sp.Key.IsZero():
			fail(offset, len(word), "{key} needs the rule to have a key")
		case (word == "{topic}" || word == "{client}") && c.sp.Window != nil:
			fail(offset, len(word), "a window has no single %s: its events may have had many; use {key}", word)
		case word == "{topic}" || word == "{client}" || word == "{key}":
			t.parts, t.between = append(t.parts, part), append(t.between, word[1])
			sample += part + "x"
			part = ""
		case offset > 0 && source.Text[offset-1] == '$':
			fail(offset-1, len(word)+1, "${…} is not replaced here; known are %s", strings.Join(placeholders, ", "))
		default:
			fail(offset, len(word), "the placeholder %s is not known%s; known are %s", word,
				didYouMean(word, placeholders), strings.Join(placeholders, ", "))
		}
		rest = rest[end+1:]
	}
	t.parts = append(t.parts, part)
	sample += part
	if err := event.CheckTopic(sample); err != nil {
		fail(0, len(source.Text), "%v", err)
	} else if sample[0] == '$' {
		fail(0, len(source.Text), "topics that begin with $ are reserved for the broker itself")
	}
	return t
}

var errReserved = errors.New("topics that begin with $ are reserved for the broker itself")

// fill puts the topic together.
func (t *template) fill(topic, client, key string) (string, error) {
	if len(t.between) == 0 {
		return t.parts[0], nil
	}
	if len(t.between) == 1 && t.between[0] == 't' && t.parts[0] == "" && t.parts[1] == "" {
		return topic, nil
	}
	var b strings.Builder
	for i, part := range t.parts {
		b.WriteString(part)
		if i == len(t.between) {
			break
		}
		switch t.between[i] {
		case 't':
			b.WriteString(topic)
		case 'c':
			b.WriteString(client)
		case 'k':
			b.WriteString(key)
		}
	}
	s := b.String()
	if err := event.CheckTopic(s); err != nil {
		return "", fmt.Errorf("emit.topic: %w", err)
	}
	if s[0] == '$' {
		return "", fmt.Errorf("emit.topic: %q: %w", s, errReserved)
	}
	return s, nil
}

// payload builds the JSON object of the fields.
func (e *emission) payload(f *frame) ([]byte, error) {
	b := make([]byte, 0, 64+16*len(e.programs))
	for i, p := range e.programs {
		b = append(b, e.names[i]...)
		v, err := p.run()
		if err != nil {
			return nil, err
		}
		if p.slot != nil {
			b = appendRaw(b, p.slot.raw) // as it was written
			continue
		}
		if b, err = appendJSON(b, v); err != nil {
			return nil, p.wrap(err)
		}
	}
	return append(b, '}'), nil
}

// event makes the output for the event at hand.
func (r *rule) event() (event.Event, error) {
	in, f := r.frame.ev, r.frame
	out := event.Event{Source: "rule", Client: r.Name, Key: in.Key, QoS: r.emit.qos, Retain: r.emit.retain, Trace: in.Trace}
	var err error
	if out.Time, err = r.happened(); err != nil {
		return out, err
	}
	if r.key != nil {
		if out.Key, err = r.key.text(); err != nil {
			return out, err
		}
	}
	if out.Topic, err = r.emit.topic.fill(in.Topic, in.Client, out.Key); err != nil {
		return out, err
	}
	if r.emit.programs == nil {
		out.Payload, out.ContentType, out.Properties = in.Payload, in.ContentType, in.Properties
	} else {
		out.ContentType = "application/json"
		if out.Payload, err = r.emit.payload(f); err != nil {
			return out, err
		}
	}
	out.Cause = &event.ID{Epoch: in.Epoch, Stream: r.Stream, Offset: in.Offset}
	return out, nil
}

// pane makes the output for the frame's pane. On an error the event holds all
// that is known of the pane, as its record.
func (r *rule) pane() (event.Event, error) {
	p := r.frame.pane
	out := event.Event{Source: "rule", Client: r.Name, Key: p.Key, Time: p.End,
		QoS: r.emit.qos, Retain: r.emit.retain, ContentType: "application/json",
		Cause: &event.ID{Epoch: p.Epoch, Stream: r.Stream, Offset: p.Offset}}
	var err error
	if out.Topic, err = r.emit.topic.fill("", "", p.Key); err == nil {
		if r.emit.programs == nil {
			out.Payload, err = r.record(p)
		} else {
			out.Payload, err = r.emit.payload(r.frame)
		}
	}
	if err != nil {
		out.Topic = r.Name
		out.Payload, _ = r.record(p)
	}
	return out, err
}

// record is the payload of a pane unless the rule names fields: all aggregates,
// the key if there is one, start and end.
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
	return append(b, '}'), err
}
