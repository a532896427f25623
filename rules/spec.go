package rules

import (
	"regexp"
	"slices"
	"time"

	"holdfast/gateway/config"
	"holdfast/rules/window"
)

// spec is a rule as it is written; configs/reference.yaml explains the keys.
type spec struct {
	Name      string          `config:"name,required"`
	From      *config.Section `config:"from,required"`
	Where     config.Expr     `config:"where"`
	For       config.Duration `config:"for,min=1ms,max=366d"`
	Key       config.Expr     `config:"key"`
	Time      *timeSpec       `config:"time"`
	Set       config.Named    `config:"set"`
	Rename    config.Named    `config:"rename"`
	Drop      []string        `config:"drop"`
	Window    *windowSpec     `config:"window"`
	Aggregate config.Named    `config:"aggregate"`
	Having    config.Expr     `config:"having"`
	Emit      *config.Section `config:"emit"`
	Immediate bool            `config:"immediate"`
	Publish   *config.Section `config:"publish"`
	State     stateSpec       `config:"state"`
	Budget    config.Duration `config:"budget,min=10us,max=10s"`

	section *config.Section
	source  source
	columns []column // of aggregate
	sets    []column
	renames []renaming
	outputs []*outputSpec
}

// timeSpec says where the time of an event stands.
type timeSpec struct {
	Field config.Expr `config:"field,required"`
	Unit  string      `config:"unit,required,oneof=s|ms|us|ns|rfc3339"`
	// Ahead is how far ahead of its receive time an event may say that it
	// happened.
	Ahead config.Duration `config:"ahead,min=1ms,max=36500d"`
}

// stateSpec bounds the memory of a rule.
type stateSpec struct {
	MaxKeys int              `config:"max_keys,min=1,max=1000000"`
	Expire  *config.Duration `config:"expire,min=1s,max=3660d"`
}

// column is an aggregate, a value of set or an emitted field: a name and an
// expression.
type column struct {
	name   string
	source config.Expr
	fn     *window.Function // of an aggregate
	params []float64
}

// renaming gives a field of the payload a new name.
type renaming struct{ from, to string }

const (
	defaultMaxKeys = 10000
	defaultExpire  = 7 * 24 * time.Hour
	defaultBudget  = 2 * time.Millisecond
	defaultAhead   = time.Hour // less than most mistakes with time zones
)

// LocalStream holds what rules publish.
const LocalStream = "local"

// EventsStream is the stream that rules read unless they say otherwise.
const EventsStream = "events"

var (
	nameRule   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

const nameHint = "may have letters, digits, -, _ and . and at most 64 of them, and begins with a letter or digit"

// eventNames are what expressions about events know besides payload fields,
// captures and the values of set.
var eventNames = []string{"topic", "client", "source", "key", "received", "qos", "payload", "time"}

// reserved names can be neither captures nor values of set.
var reserved = append([]string{"rule"}, eventNames...)

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
	errs.Add(sp.readOutputs())
	errs.Add(sp.readSet())
	errs.Add(sp.readTransform())
	errs.Add(sp.readImmediate())
	if sp.State.MaxKeys == 0 {
		sp.State.MaxKeys = defaultMaxKeys
	}
	if sp.Time != nil && sp.Time.Ahead == 0 {
		sp.Time.Ahead = config.Duration(defaultAhead)
	}
	if sp.Budget == 0 {
		sp.Budget = config.Duration(defaultBudget)
	}
	return sp, errs
}

// rule describes the rule for people.
func (sp *spec) rule() Rule {
	r := Rule{Name: sp.Name, Stream: sp.source.stream, Reads: sp.source.rule, Timer: sp.source.timer(), Where: sp.Where.Text,
		Window: sp.Window != nil, Immediate: sp.Immediate, Pos: sp.section.Pos()}
	for _, p := range sp.source.patterns {
		r.Filters = append(r.Filters, p.filter)
	}
	for _, o := range sp.written() {
		if !slices.Contains(r.Outputs, o.Stream) && o.Stream != "" {
			r.Outputs = append(r.Outputs, o.Stream)
		}
	}
	return r
}

// written are all outputs, that of late events included.
func (sp *spec) written() []*outputSpec {
	if sp.Window == nil || sp.Window.Late == "" {
		return sp.outputs
	}
	late := &outputSpec{Stream: sp.Window.Late, section: sp.section.Child("window"), what: "window.late"}
	return append(slices.Clone(sp.outputs), late)
}

func (sp *spec) expire() time.Duration {
	if sp.State.Expire != nil {
		return sp.State.Expire.Std()
	}
	return defaultExpire
}

func (sp *spec) readSet() error {
	var errs config.Errors
	for _, child := range sp.Set {
		c := column{name: child.Name()}
		switch {
		case slices.Contains(reserved, c.name):
			errs.Add(child.Errorf("", "%q is taken: every event has it; choose another name", c.name))
		case !identifier.MatchString(c.name):
			errs.Add(child.Errorf("", "%q cannot name a value: use letters, digits and _", c.name))
		case slices.ContainsFunc(sp.source.patterns, func(p pattern) bool { return p.level(c.name) >= 0 }):
			errs.Add(child.Errorf("", "%q is taken: from names a level so; choose another name", c.name))
		}
		errs.Add(child.Decode(&c.source))
		sp.sets = append(sp.sets, c)
	}
	return errs.Err()
}

// readTransform reads drop and rename, which need a payload that is passed on.
func (sp *spec) readTransform() error {
	var errs config.Errors
	to := map[string]bool{}
	for _, child := range sp.Rename {
		var name string
		errs.Add(child.Decode(&name))
		if to[name] {
			errs.Add(child.Errorf("", "two fields would be named %q", name))
		}
		to[name] = true
		sp.renames = append(sp.renames, renaming{child.Name(), name})
	}
	for i, name := range sp.Drop {
		if slices.ContainsFunc(sp.renames, func(r renaming) bool { return r.from == name }) {
			sp.errorf(&errs, "drop."+itoa(i), "%q is renamed and dropped; remove one of them", name)
		}
	}
	if len(sp.Drop)+len(sp.renames) > 0 && sp.From != nil && len(sp.outputs) > 0 && !slices.ContainsFunc(sp.outputs, sp.passesOn) {
		key := "drop"
		if len(sp.renames) > 0 {
			key = "rename"
		}
		sp.errorf(&errs, key, "%s has no effect: no output of this rule passes the payload on", key)
	}
	return errs.Err()
}

func (sp *spec) errorf(errs *config.Errors, key, format string, args ...any) {
	errs.Add(sp.section.Errorf(key, format, args...))
}
