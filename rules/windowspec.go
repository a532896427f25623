package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/rules/window"
)

// windowSpec says how events are grouped.
type windowSpec struct {
	Tumbling config.Duration  `config:"tumbling,min=1ms,max=366d"`
	Hopping  config.Duration  `config:"hopping,min=1ms,max=366d"`
	Hop      config.Duration  `config:"hop,min=1ms,max=366d"`
	Sliding  config.Duration  `config:"sliding,min=1ms,max=366d"`
	Session  config.Duration  `config:"session,min=1ms,max=366d"`
	Count    int              `config:"count,min=1,max=1000000000"`
	While    config.Expr      `config:"while"`
	Grace    config.Duration  `config:"grace,min=0s,max=366d"`
	Idle     *config.Duration `config:"idle,min=0s,max=366d"`
	Early    config.Duration  `config:"early,min=100ms,max=366d"`
	Late     string           `config:"late"`
	MaxKeys  int              `config:"max_keys,min=1,max=1000000"`
	MaxRows  int              `config:"max_rows,min=1,max=10000000"`
	Expire   *config.Duration `config:"expire,min=1s,max=366d"`
}

const (
	defaultIdle      = 5 * time.Second // of windows by event time
	defaultKeyExpire = 24 * time.Hour  // of keys of windows that fall silent
	maxOpen          = 100             // windows open side by side because of grace
)

// windowKinds are the keys of which a window has one.
var windowKinds = []string{"tumbling", "hopping", "sliding", "session", "count", "while"}

// assigner says which windows an event belongs to; nil if that is not said.
func (w *windowSpec) assigner() window.Assigner {
	switch {
	case w.Tumbling > 0:
		return window.Tumbling{Size: w.Tumbling.Std()}
	case w.Hopping > 0 && w.Hop > 0:
		return window.Hopping{Size: w.Hopping.Std(), Every: w.Hop.Std()}
	case w.Sliding > 0:
		return window.Sliding{Size: w.Sliding.Std()}
	case w.Session > 0:
		return window.Session{Gap: w.Session.Std()}
	case w.Count > 0:
		return window.Count{Rows: w.Count}
	case !w.While.IsZero():
		return window.State{}
	}
	return nil
}

// shape is what decides which windows there are.
func (w *windowSpec) shape() string {
	return fmt.Sprintf("%T%v %s", w.assigner(), w.assigner(), w.While.Text)
}

// paneNames are what expressions about a pane know besides the aggregates.
var paneNames = []string{"key", "start", "end", "early", "expired"}

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
		sp.readWindowKind(&errs)
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

// readWindowKind checks what a window says about itself.
func (sp *spec) readWindowKind(errs *config.Errors) {
	w, s := sp.Window, sp.section
	var kinds []string
	at := s.Child("window")
	for _, kind := range windowKinds {
		if at.Has(kind) {
			kinds = append(kinds, kind)
		}
	}
	switch {
	case len(kinds) == 0:
		errs.Add(s.Errorf("window", "a window needs one of %s", strings.Join(windowKinds, ", ")))
	case len(kinds) > 1:
		errs.Add(at.Errorf(kinds[1], "a window is of one kind: remove %s or %s", kinds[0], kinds[1]))
	case w.Hopping > 0 && !at.Has("hop"):
		errs.Add(s.Errorf("window", "a hopping window needs hop, as in {hopping: 60s, hop: 10s}"))
	case at.Has("hop") && kinds[0] != "hopping":
		errs.Add(at.Errorf("hop", "hop is for hopping windows; remove the key"))
	case at.Has("early") && w.Sliding > 0:
		errs.Add(at.Errorf("early", "a sliding window has a result for every event; remove early"))
	}
	if w.Late != "" && !nameRule.MatchString(w.Late) {
		errs.Add(at.Errorf("late", "%q cannot name a stream: a name %s", w.Late, nameHint))
	}
	if w.Tumbling > 0 && w.Grace/w.Tumbling > maxOpen {
		errs.Add(at.Errorf("grace", "a grace of more than %d windows is not possible", maxOpen))
	}
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
