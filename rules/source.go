package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// fromSpec is `from` written as a mapping.
type fromSpec struct {
	Stream string          `config:"stream"`
	Rule   string          `config:"rule"`
	Topics *config.Section `config:"topics"`
	Every  config.Duration `config:"every,min=100ms,max=366d"`
	Cron   config.Expr     `config:"cron"`
	Zone   string          `config:"zone"`
}

// source is what triggers a rule.
type source struct {
	stream   string // read by topic; empty for a rule
	rule     string // whose outputs are read
	patterns []pattern
	every    time.Duration
	cron     cron.Schedule
	text     string // of a timer, for people
}

func (s *source) timer() string { return s.text }

// captures are the names of levels, the same ones in all patterns.
func (s *source) captures() []string {
	if len(s.patterns) == 0 {
		return nil
	}
	return s.patterns[0].names
}

// filters are the topics of the rule as plain filters.
func (s *source) filters() []string {
	var all []string
	for _, p := range s.patterns {
		all = append(all, p.filter)
	}
	return all
}

func (sp *spec) readFrom() error {
	var errs config.Errors
	sp.source.stream = EventsStream
	topics := sp.From
	if sp.From.Kind() == config.Mapping {
		var from fromSpec
		errs.Add(sp.From.Decode(&from))
		if topics = from.Topics; topics == nil {
			sp.source.patterns = []pattern{{text: "#", filter: "#"}}
		}
		sp.readMapping(&from, &errs)
	}
	if topics != nil {
		sp.readPatterns(topics, &errs)
	}
	return errs.Err()
}

// readMapping reads what from says besides topics.
func (sp *spec) readMapping(from *fromSpec, errs *config.Errors) {
	s := sp.From
	var kinds []string
	for _, key := range []string{"stream", "rule", "every", "cron"} {
		if s.Has(key) {
			kinds = append(kinds, key)
		}
	}
	if len(kinds) > 1 {
		errs.Add(s.Errorf(kinds[1], "a rule has one trigger: remove %s or %s", kinds[0], kinds[1]))
		return
	}
	switch {
	case s.Has("stream"):
		if sp.source.stream = from.Stream; !nameRule.MatchString(from.Stream) {
			errs.Add(s.Errorf("stream", "%q cannot name a stream: a name %s", from.Stream, nameHint))
		}
	case s.Has("rule"):
		sp.source.stream, sp.source.rule = "", from.Rule
	case s.Has("every"):
		sp.source.every, sp.source.text = from.Every.Std(), "every "+from.Every.String()
	case s.Has("cron"):
		sp.readCron(from, errs)
	}
	if sp.source.text != "" || s.Has("cron") || s.Has("every") {
		sp.source.patterns = nil
		if s.Has("topics") {
			errs.Add(s.Errorf("topics", "a timer has no topics; remove the key"))
		}
	}
	if s.Has("zone") && !s.Has("cron") {
		errs.Add(s.Errorf("zone", "zone is for cron; remove the key"))
	}
}

func (sp *spec) readCron(from *fromSpec, errs *config.Errors) {
	s := sp.From
	zone, err := time.LoadLocation(from.Zone)
	if err != nil || from.Zone == "Local" {
		errs.Add(s.Errorf("zone", "%q is not a time zone; write one such as Europe/Berlin", from.Zone))
		return
	}
	text := from.Cron.Text
	if strings.ContainsRune(text, '=') { // the library would read a zone from it
		errs.Add(from.Cron.At(0, len(text), "%q is not a schedule; the time zone goes into zone", text))
		return
	}
	schedule, err := cron.ParseStandard(text)
	switch {
	case err != nil:
		errs.Add(from.Cron.At(0, len(text), "%q is not a schedule such as \"0 6 * * 1-5\": %v", text, err))
		return
	case schedule.Next(time.Unix(0, 0)).IsZero():
		errs.Add(from.Cron.At(0, len(text), "%q never comes", text))
		return
	}
	if each, ok := schedule.(*cron.SpecSchedule); ok {
		each.Location = zone
	} else {
		errs.Add(from.Cron.At(0, len(text), "use every for a fixed interval, as in from: {every: 10m}"))
		return
	}
	sp.source.cron, sp.source.text = schedule, "cron "+text
}

func (sp *spec) readPatterns(topics *config.Section, errs *config.Errors) {
	var texts []string
	if err := topics.Decode(&texts); err != nil {
		errs.Add(err)
		return
	}
	if len(texts) == 0 {
		errs.Add(topics.Errorf("", "there is no topic filter; use # for all topics"))
	}
	for i, text := range texts {
		p, err := parsePattern(text)
		if err != nil {
			errs.Add(topics.Errorf(strconv.Itoa(i), "%v", err))
			continue
		}
		if n := len(sp.source.patterns); n > 0 {
			first := &sp.source.patterns[0]
			for _, name := range append(slices.Clone(first.names), p.names...) {
				if first.level(name) < 0 || p.level(name) < 0 {
					errs.Add(topics.Errorf(strconv.Itoa(i), "every filter of a rule must name the same levels: {%s} is not in all of them", name))
					break
				}
			}
		}
		sp.source.patterns = append(sp.source.patterns, p)
	}
}

// next is the first time after t at which a timer comes.
func (s *source) next(t event.Time) event.Time {
	if s.every > 0 {
		step := event.Time(s.every)
		return t/step*step + step
	}
	return event.At(s.cron.Next(t.Std()))
}

// latest is the last time up to now at which a timer came, if that is after t.
func (s *source) latest(t, now event.Time) (event.Time, bool) {
	if s.every > 0 {
		step := event.Time(s.every)
		last := now / step * step
		return last, last > t
	}
	last := t
	for n := 0; ; n++ {
		next := s.next(last)
		if next <= last || next > now || n > maxMissed {
			return last, last > t
		}
		last = next
	}
}

// maxMissed bounds how many missed times of a schedule are counted through.
const maxMissed = 1 << 20

// String describes the source in messages.
func (s *source) String() string {
	switch {
	case s.text != "":
		return s.text
	case s.rule != "":
		return fmt.Sprintf("the rule %q", s.rule)
	}
	return fmt.Sprintf("%q", s.stream)
}

func itoa(n int) string { return strconv.Itoa(n) }
