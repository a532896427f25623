package rules

import (
	"slices"
	"time"

	"holdfast/gateway/config"
)

// windowSpec says how events are grouped by time.
type windowSpec struct {
	Tumbling config.Duration  `config:"tumbling,required,min=1ms,max=366d" doc:"Windows of this length, one after the other."`
	Grace    config.Duration  `config:"grace,min=0s,max=366d" doc:"How long a window waits for late events."`
	Idle     *config.Duration `config:"idle,min=0s,max=366d" doc:"Silence after which a window closes without further events. Default: 5s with time, else 0s."`
	MaxKeys  int              `config:"max_keys,min=1,max=1000000" doc:"Keys in one window; events of further keys are dead letters. Default: 10000."`
}

const (
	defaultIdle = 5 * time.Second // of windows by event time
	maxOpen     = 100             // windows open side by side because of grace
)

// paneNames are what expressions about a pane know besides the aggregates.
var paneNames = []string{"key", "start", "end"}

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
		if s.Has("for") {
			errs.Add(s.Errorf("for", "for is for rules without a window; use having and a rule that reads this one"))
		}
		if sp.source.text != "" {
			errs.Add(s.Errorf("window", "a timer has no events to group; read a stream or a rule"))
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
