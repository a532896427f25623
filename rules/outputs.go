package rules

import (
	"fmt"

	"holdfast/gateway/config"
)

// outputSpec is one output of a rule.
type outputSpec struct {
	Stream  string       `config:"stream"`
	Topic   config.Expr  `config:"topic"`
	Where   config.Expr  `config:"where"`
	QoS     uint8        `config:"qos,max=2"`
	Retain  bool         `config:"retain"`
	Fields  config.Named `config:"fields"`
	Payload config.Expr  `config:"payload"`

	section *config.Section
	what    string // emit, or emit[1]
	fields  []column
}

func (o *outputSpec) bare() bool {
	return o.Fields == nil && o.Payload.IsZero() && !o.section.Has("fields")
}

// passesOn reports whether an output has the payload of the event.
func (sp *spec) passesOn(o *outputSpec) bool {
	return o.bare() && sp.Window == nil && sp.source.text == ""
}

// readOutputs reads emit and publish.
func (sp *spec) readOutputs() error {
	var errs config.Errors
	if sp.Emit == nil && sp.Publish == nil {
		errs.Add(sp.section.Errorf("", "the required key %q is missing", "emit"))
	}
	sp.readOutput("emit", sp.Emit, &errs)
	sp.readOutput("publish", sp.Publish, &errs)
	return errs.Err()
}

func (sp *spec) readOutput(what string, s *config.Section, errs *config.Errors) {
	if s == nil {
		return
	}
	items := []*config.Section{s}
	if s.Kind() == config.List {
		if items = s.Items(); len(items) == 0 {
			errs.Add(s.Errorf("", "%s is empty; name an output or remove the key", what))
		}
	}
	for i, item := range items {
		o := &outputSpec{section: item, what: what, QoS: 1} // absent subscribers shall have it
		if s.Kind() == config.List {
			o.what = fmt.Sprintf("%s[%d]", what, i)
		}
		errs.Add(item.Decode(o))
		if item.Kind() == config.Mapping {
			sp.checkOutput(o, what == "publish", errs)
		}
		sp.outputs = append(sp.outputs, o)
	}
}

func (sp *spec) checkOutput(o *outputSpec, publish bool, errs *config.Errors) {
	s := o.section
	switch {
	case publish && s.Has("stream"):
		errs.Add(s.Errorf("stream", "publish has no stream: it goes through the stream %s; use emit to choose one", LocalStream))
	case publish:
		o.Stream = LocalStream
		if o.Topic.IsZero() {
			errs.Add(s.Errorf("", "the required key %q is missing", "topic"))
			o.Topic.Text = "x" // no further mistake follows from that
		}
	case !s.Has("stream"):
		errs.Add(s.Errorf("", "the required key %q is missing", "stream"))
	case o.Stream != "" && !nameRule.MatchString(o.Stream):
		errs.Add(s.Errorf("stream", "%q cannot name a stream: a name %s", o.Stream, nameHint))
	}
	for _, child := range o.Fields {
		c := column{name: child.Name()}
		errs.Add(child.Decode(&c.source))
		o.fields = append(o.fields, c)
	}
	if s.Has("fields") && len(o.fields) == 0 {
		errs.Add(s.Errorf("fields", "fields is empty; name fields or remove the key"))
	}
	if s.Has("fields") && s.Has("payload") {
		errs.Add(s.Errorf("payload", "an output has fields or a payload; remove one of them"))
	}
}
