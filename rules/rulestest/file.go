package rulestest

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules"
)

// Suffix is how the names of test files end.
const Suffix = "_test.yaml"

// Loader reads what tests need besides their files.
type Loader struct {
	// Config returns the rules of a configuration; nil if there is none.
	Config func(path string) (*rules.Set, error)
}

// File is a test file, ready to run.
type File struct {
	Path  string
	Tests []*Test
	set   *rules.Set
}

// Test is one case of a file.
type Test struct {
	Name  string
	Pos   config.Pos
	start event.Time
	only  []string
	steps []step
}

// step is something that happens, or that is expected to have happened.
type step struct {
	section *config.Section
	at      moment
	event   *event.Event // nil for none
	stream  string       // of event
	expect  *expectation // nil for none
}

// moment says when something happens.
type moment struct {
	absolute event.Time    // 0 for none
	offset   time.Duration // after the start, or after what was before
	before   bool          // offset counts from what was before
}

func (m moment) time(start, clock event.Time) event.Time {
	switch {
	case m.absolute != 0:
		return m.absolute
	case m.before:
		return clock.Add(m.offset)
	}
	return start.Add(m.offset)
}

type fileSpec struct {
	Rules  []config.Path     `config:"rules"`
	Config config.Path       `config:"config"`
	Start  string            `config:"start"`
	Tests  []*config.Section `config:"tests,required"`
}

type testSpec struct {
	Name   string            `config:"name,required"`
	Start  string            `config:"start"`
	Only   []string          `config:"only"`
	Given  []*config.Section `config:"given"`
	Expect *config.Section   `config:"expect"`
}

type stepSpec struct {
	At          string           `config:"at"`
	After       config.Duration  `config:"after"`
	Stream      string           `config:"stream"`
	Topic       string           `config:"topic"`
	Data        *config.Section  `config:"data"`
	Payload     *string          `config:"payload"`
	Client      string           `config:"client"`
	Source      string           `config:"source"`
	Key         string           `config:"key"`
	Time        string           `config:"time"`
	ContentType string           `config:"content_type"`
	QoS         uint8            `config:"qos,max=2"`
	Retain      bool             `config:"retain"`
	Advance     *config.Duration `config:"advance"`
	Expect      *config.Section  `config:"expect"`
}

// defaultStart is when tests begin, far from any change of clocks.
var defaultStart = event.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))

// Load reads a test file and compiles its rules. The error is [config.Errors]
// with every mistake in the file and in the rules.
func (l Loader) Load(path string) (*File, error) {
	root, err := config.Load(path)
	if root == nil {
		return nil, err
	}
	var errs config.Errors
	errs.Add(err)
	f, err := l.Read(root)
	errs.Add(err)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return f, nil
}

// Read does what Load does with a file that has been read.
func (l Loader) Read(root *config.Section) (*File, error) {
	var errs config.Errors
	var set fileSpec
	errs.Add(root.Decode(&set))
	all, err := l.rules(root, &set)
	errs.Add(err)
	f := &File{Path: root.File(), set: all}
	start := instant(root, "start", set.Start, &errs)
	if start == 0 {
		start = defaultStart
	}
	names := map[string]config.Pos{}
	for _, s := range set.Tests {
		t := readTest(s, start, &errs)
		for _, st := range t.steps {
			if all != nil && st.event != nil && st.section.Has("stream") && !slices.Contains(all.Inputs(), st.stream) {
				errs.Add(st.section.Errorf("stream", "no rule reads what comes into %q from outside; those that read it get what other rules emit", st.stream))
			}
		}
		if first, twice := names[t.Name]; twice && t.Name != "" {
			errs.Add(s.Errorf("name", "another test is named %q, at %v", t.Name, first))
		}
		names[t.Name] = t.Pos
		f.Tests = append(f.Tests, t)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return f, nil
}

// rules compiles what the file tests.
func (l Loader) rules(root *config.Section, set *fileSpec) (*rules.Set, error) {
	switch {
	case root.Has("rules") && root.Has("config"):
		return nil, root.Errorf("rules", "a file tests rules or a config; remove one of them")
	case root.Has("config") && l.Config == nil:
		return nil, root.Errorf("config", "no configuration can be read here; list files under rules")
	case root.Has("config"):
		all, err := l.Config(string(set.Config))
		if err == nil && all == nil {
			return nil, root.Errorf("config", "the configuration has no rules")
		}
		return all, err
	case !root.Has("rules"):
		beside := strings.TrimSuffix(root.File(), Suffix) + ".yaml"
		if beside == root.File()+".yaml" {
			return nil, root.Errorf("", "the name of the file does not end in %s; list the files with rules under rules", Suffix)
		}
		set.Rules = []config.Path{config.Path(beside)}
	}
	var errs config.Errors
	var sections []*config.Section
	for _, path := range set.Rules {
		matches := []string{string(path)}
		if found, err := filepath.Glob(string(path)); err == nil && len(found) > 0 {
			matches = found
		}
		for _, m := range matches {
			if strings.HasSuffix(m, Suffix) {
				continue
			}
			file, err := config.Load(m)
			if errors.Is(err, fs.ErrNotExist) {
				err = root.Errorf("rules", "there is no file %s; list the files with the rules to test under rules", m)
			}
			errs.Add(err)
			if file != nil {
				sections = append(sections, rules.Sections(file)...)
			}
		}
	}
	all, err := rules.Compile(sections)
	errs.Add(err)
	return all, errs.Err()
}

func readTest(s *config.Section, start event.Time, errs *config.Errors) *Test {
	var set testSpec
	errs.Add(s.Decode(&set))
	t := &Test{Name: set.Name, Pos: s.Errorf("name", "").Pos, start: start, only: set.Only}
	if at := instant(s, "start", set.Start, errs); at != 0 {
		t.start = at
	}
	expects := false
	for _, g := range set.Given {
		st := readStep(g, errs)
		expects = st.expect != nil // what follows the last one must be expected too
		t.steps = append(t.steps, st)
	}
	switch {
	case set.Expect != nil:
		t.steps = append(t.steps, step{section: set.Expect, at: moment{before: true}, expect: readExpectation(set.Expect, errs)})
	case !expects && s.Kind() == config.Mapping:
		errs.Add(s.Errorf("", "the test expects nothing in particular; write expect: with what comes out, or expect: nothing"))
	}
	return t
}

func readStep(s *config.Section, errs *config.Errors) step {
	set := stepSpec{Stream: rules.EventsStream, Source: "mqtt"}
	errs.Add(s.Decode(&set))
	st := step{section: s, at: moment{before: true}}
	if s.Kind() != config.Mapping {
		return st
	}
	kinds := 0
	for _, key := range []string{"topic", "advance", "expect"} {
		if s.Has(key) {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		errs.Add(s.Errorf("", "what happens is an event with a topic, advance, or expect, one of them"))
		return st
	case set.Advance != nil:
		st.at.offset = set.Advance.Std()
		refuse(s, errs, "advance")
		return st
	case set.Expect != nil:
		st.section, st.expect = set.Expect, readExpectation(set.Expect, errs)
		refuse(s, errs, "expect")
		return st
	}
	if err := event.CheckTopic(set.Topic); err != nil {
		errs.Add(s.Errorf("topic", "%v", err))
	}
	switch {
	case s.Has("at") && s.Has("after"):
		errs.Add(s.Errorf("after", "an event comes at a time, or after what was before; remove one of them"))
	case s.Has("after"):
		st.at.offset = set.After.Std()
	case s.Has("at"):
		st.at = readMoment(s, set.At, errs)
	}
	st.stream = set.Stream
	st.event = &event.Event{
		Topic: set.Topic, Client: set.Client, Source: set.Source, Key: set.Key, ContentType: set.ContentType,
		QoS: set.QoS, Retain: set.Retain, Time: instant(s, "time", set.Time, errs),
	}
	switch {
	case set.Data != nil && set.Payload != nil:
		errs.Add(s.Errorf("payload", "an event has data or a payload; remove one of them"))
	case set.Data != nil:
		st.event.Payload = set.Data.JSON()
	case set.Payload != nil:
		st.event.Payload = []byte(*set.Payload)
	}
	return st
}

// refuse reports the keys that say something about an event where there is
// none.
func refuse(s *config.Section, errs *config.Errors, alone string) {
	for _, key := range config.Keys(&stepSpec{}) {
		if key != alone && s.Has(key) {
			errs.Add(s.Errorf(key, "%s stands alone; remove %s", alone, key))
		}
	}
}

func readMoment(s *config.Section, text string, errs *config.Errors) moment {
	if after, ok := strings.CutPrefix(text, "+"); ok {
		d, err := config.ParseDuration(after)
		if err != nil {
			errs.Add(s.Errorf("at", "at: %v", err))
		}
		return moment{offset: d.Std()}
	}
	return moment{absolute: instant(s, "at", text, errs)}
}

// instant reads a time of day; 0 for none.
func instant(s *config.Section, key, text string, errs *config.Errors) event.Time {
	if text == "" {
		return 0
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() < 1970 || t.Year() > 2222 {
		errs.Add(s.Errorf(key, "%q is not a time such as 2026-01-01T06:00:00Z, or +10s for after the start", text))
		return 0
	}
	return event.At(t)
}
