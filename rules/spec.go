package rules

import (
	"fmt"
	"hash/fnv"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// EventsStream is the stream that rules read unless they say otherwise.
const EventsStream = "events"

// spec is a rule as it is written.
type spec struct {
	Name      string          `config:"name,required"`
	From      *config.Section `config:"from,required"`
	Where     config.Expr     `config:"where"`
	Key       config.Expr     `config:"key"`
	Time      *timeSpec       `config:"time"`
	Window    *windowSpec     `config:"window"`
	Aggregate config.Named    `config:"aggregate"`
	Having    config.Expr     `config:"having"`
	Emit      *emitSpec       `config:"emit,required"`

	section *config.Section
	stream  string
	filters []string
	columns []column
	fields  []column // of emit
}

type timeSpec struct {
	Field config.Expr `config:"field,required"`
	Unit  string      `config:"unit,required,oneof=s|ms|us|ns|rfc3339"`
}

type windowSpec struct {
	Tumbling config.Duration  `config:"tumbling,required,min=1ms,max=366d"`
	Grace    config.Duration  `config:"grace,min=0s,max=366d"`
	Idle     *config.Duration `config:"idle,min=0s,max=366d"`
	MaxKeys  int              `config:"max_keys,min=1,max=1000000"`
}

type emitSpec struct {
	Stream string       `config:"stream,required"`
	Topic  config.Expr  `config:"topic"`
	QoS    uint8        `config:"qos,max=2"`
	Retain bool         `config:"retain"`
	Fields config.Named `config:"fields"`
}

// column is an aggregate or an emitted field: a name and an expression.
type column struct {
	name   string
	source config.Expr
	fn     *window.Function // of an aggregate
	params []float64
}

const (
	defaultIdle    = 5 * time.Second // of windows by event time
	defaultMaxKeys = 10000
	defaultExpire  = 24 * time.Hour // of keys that fall silent
	maxOpen        = 100            // windows open side by side because of grace
)

// paneNames are what expressions about a pane know besides the aggregates.
var paneNames = []string{"key", "start", "end"}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

const nameHint = "may have letters, digits, -, _ and . and at most 64 of them, and begins with a letter or digit"

// readSpec decodes a section and checks what needs no expressions.
func readSpec(s *config.Section) (*spec, config.Errors) {
	var errs config.Errors
	sp := &spec{section: s}
	errs.Add(s.Decode(sp))
	if sp.Name != "" && !nameRule.MatchString(sp.Name) {
		errs.Add(s.Errorf("name", "%q cannot name a rule: a name %s", sp.Name, nameHint))
	}
	if sp.From != nil {
		errs.Add(sp.readFrom())
	}
	errs.Add(sp.readWindow())
	if sp.Emit == nil {
		sp.Emit = &emitSpec{}
	} else {
		if stream := sp.Emit.Stream; stream != "" && !nameRule.MatchString(stream) {
			errs.Add(s.Errorf("emit.stream", "%q cannot name a stream: a name %s", stream, nameHint))
		}
		for _, child := range sp.Emit.Fields {
			c := column{name: child.Name()}
			errs.Add(child.Decode(&c.source))
			sp.fields = append(sp.fields, c)
		}
		if s.Child("emit").Has("fields") && len(sp.fields) == 0 {
			errs.Add(s.Errorf("emit.fields", "fields is empty; name fields or remove the key"))
		}
	}
	return sp, errs
}

// rule describes the rule for people.
func (sp *spec) rule() Rule {
	return Rule{Name: sp.Name, Stream: sp.stream, Filters: sp.filters, Where: sp.Where.Text,
		Window: sp.Window != nil, Output: sp.Emit.Stream, Pos: sp.section.Pos()}
}

func (sp *spec) readFrom() error {
	var errs config.Errors
	sp.stream = EventsStream
	filters := sp.From
	if sp.From.Kind() == config.Mapping {
		var from struct {
			Stream string          `config:"stream"`
			Topics *config.Section `config:"topics"`
		}
		from.Stream = EventsStream
		if err := sp.From.Decode(&from); err != nil {
			return err
		}
		if sp.stream = from.Stream; !nameRule.MatchString(sp.stream) {
			errs.Add(sp.From.Errorf("stream", "%q cannot name a stream: a name %s", sp.stream, nameHint))
		}
		if filters = from.Topics; filters == nil {
			sp.filters = []string{"#"}
			return errs.Err()
		}
	}
	errs.Add(filters.Decode(&sp.filters))
	if len(errs) == 0 && len(sp.filters) == 0 {
		errs.Add(filters.Errorf("", "there is no topic filter; use # for all topics"))
	}
	for i, f := range sp.filters {
		if err := event.CheckFilter(f); err != nil {
			errs.Add(filters.Errorf(fmt.Sprint(i), "%v", err))
		}
	}
	return errs.Err()
}

func (sp *spec) readWindow() error {
	var errs config.Errors
	s := sp.section
	switch {
	case sp.Window == nil && s.Has("aggregate"):
		errs.Add(s.Errorf("aggregate", "aggregate needs a window, as in window: {tumbling: 10s}"))
	case sp.Window == nil && s.Has("having"):
		errs.Add(s.Errorf("having", "having is a condition on the aggregates of a window; use where for events"))
	case sp.Window != nil && !s.Has("aggregate"):
		errs.Add(s.Errorf("window", "a window needs aggregate, as in aggregate: {n: count()}"))
	case sp.Window != nil && len(sp.Aggregate) == 0:
		errs.Add(s.Errorf("aggregate", "aggregate is empty; name at least one, as in n: count()"))
	}
	if w := sp.Window; w != nil {
		if w.MaxKeys == 0 {
			w.MaxKeys = defaultMaxKeys
		}
		if w.Tumbling > 0 && w.Grace/w.Tumbling > maxOpen {
			errs.Add(s.Errorf("window.grace", "a grace of more than %d windows is not possible", maxOpen))
		}
	}
	for _, child := range sp.Aggregate {
		c := column{name: child.Name()}
		if slices.Contains(paneNames, c.name) {
			errs.Add(child.Errorf("", "%q is taken: every window has it; choose another name", c.name))
		} else if !identifier.MatchString(c.name) {
			errs.Add(child.Errorf("", "%q cannot name an aggregate: use letters, digits and _", c.name))
		}
		errs.Add(child.Decode(&c.source))
		sp.columns = append(sp.columns, c)
	}
	return errs.Err()
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// idle is how long silence lasts before it moves the watermark.
func (sp *spec) idle() time.Duration {
	switch {
	case sp.Window.Idle != nil:
		return time.Duration(*sp.Window.Idle)
	case sp.Time != nil:
		return defaultIdle
	}
	return 0
}

// shape is a digest of all that decides what the state of the rule means. What
// it emits, on which condition, and how long it waits are not part of it, so
// that those can be changed without losing the windows that are open.
func (sp *spec) shape() uint64 {
	h := fnv.New64a()
	put := func(parts ...string) {
		for _, p := range parts {
			fmt.Fprintf(h, "%d:%s,", len(p), p)
		}
	}
	put(sp.stream, strings.Join(sp.filters, "\x00"), sp.Where.Text, sp.Key.Text)
	if sp.Time != nil {
		put("time", sp.Time.Field.Text, sp.Time.Unit)
	}
	if sp.Window != nil {
		put("tumbling", time.Duration(sp.Window.Tumbling).String())
	}
	for _, c := range sp.columns {
		put(c.source.Text)
	}
	_, _ = io.WriteString(h, ";")
	return h.Sum64()
}
