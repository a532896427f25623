package gateway

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/devices"
	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules"
	"holdfast/rules/codec"
)

// ruleSections lists the rules of the configuration: those written inline and
// those of the files that a pattern names.
func (l *loader) ruleSections(items []*config.Section) []*config.Section {
	var all []*config.Section
	for _, item := range items {
		if item.Kind() != config.Scalar {
			all = append(all, item)
			continue
		}
		var pattern string
		if err := item.Decode(&pattern); err != nil {
			l.errs.Add(err)
			continue
		}
		for _, path := range l.ruleFiles(item, pattern) {
			s, err := config.Load(path)
			l.errs.Add(err)
			if s != nil {
				all = append(all, rules.Sections(s)...)
			}
		}
	}
	return all
}

// ruleFiles lists the files of a pattern, without the tests beside them.
func (l *loader) ruleFiles(item *config.Section, pattern string) []string {
	paths, err := filepath.Glob(item.Path(pattern))
	paths = slices.DeleteFunc(paths, func(path string) bool {
		ext := filepath.Ext(path)
		return strings.HasSuffix(strings.TrimSuffix(path, ext), "_test")
	})
	switch {
	case err != nil:
		l.errs.Add(item.Errorf("", "%q is not a file pattern: %v", pattern, err))
	case len(paths) == 0 && !strings.ContainsAny(pattern, `*?[`):
		l.errs.Add(item.Errorf("", "there is no file %s", item.Path(pattern)))
	case len(paths) == 0:
		l.c.Warnings.Add(item.Errorf("", "no file matches %s", item.Path(pattern)))
	}
	return paths
}

// payloadSettings say in which format the payloads of topics are.
func (l *loader) payloads(sections config.Named) (all []rules.TopicCodec) {
	for _, s := range sections {
		var name string
		if err := s.Decode(&name); err != nil {
			l.errs.Add(err)
			continue
		}
		if err := event.CheckFilter(s.Name()); err != nil {
			l.errs.Add(s.Errorf("", "%v", err))
		}
		c, known := codec.ByName(name)
		if !known {
			var names []string
			for _, c := range codec.All() {
				names = append(names, c.String())
			}
			hint := "; known are " + strings.Join(names, ", ")
			if near := config.Nearest(name, names); near != "" {
				hint = fmt.Sprintf(", did you mean %q?", near)
			}
			l.errs.Add(s.Errorf("", "%q is not a format of payloads%s", name, hint))
			continue
		}
		all = append(all, rules.TopicCodec{Filter: s.Name(), Codec: c})
	}
	return all
}

// rules compiles the rules, creates the streams that they write to, and checks
// that they read from streams that exist.
func (l *loader) rules(sections []*config.Section, o rules.Options) {
	if len(sections) == 0 {
		return
	}
	o.Open = func(name string) bool {
		s := l.stream(name)
		return name == streamDead || s != nil && len(s.Topics) > 0
	}
	set, err := o.Compile(sections)
	l.errs.Add(err)
	for _, s := range sections {
		for _, emit := range listOf(s.Child("emit")) {
			l.notDead(emit, "stream")
			l.outputStream(text(emit.Child("stream")))
		}
		if window := s.Child("window"); window != nil {
			l.notDead(window, "late")
		}
	}
	if err == nil {
		l.c.Rules = set
		for _, name := range set.Outputs() {
			if l.stream(name) == nil {
				l.c.Streams = append(l.c.Streams, newStream(name))
			}
		}
	}
	for _, s := range sections {
		if window := s.Child("window"); window != nil {
			l.outputStream(text(window.Child("late")))
		}
		l.outputStream(rules.LocalStream, s.Has("publish"))
	}
	for _, s := range sections {
		for _, from := range listOf(s.Child("from")) {
			l.ruleSource(from)
		}
	}
}

// notDead refuses the stream of dead letters as one that a rule writes to.
func (l *loader) notDead(s *config.Section, key string) {
	if name, ok := text(s.Child(key)); ok && name == streamDead {
		l.errs.Add(s.Errorf(key, "the stream %s holds what rules and destinations failed on, and nothing else; write to a stream of another name", streamDead))
	}
}

// outputStream creates a stream that a rule writes to, even if the rules do not
// compile, so that no other mistake follows from that.
func (l *loader) outputStream(name string, ok bool) {
	if ok && validName(name) && l.stream(name) == nil {
		l.c.Streams = append(l.c.Streams, newStream(name))
	}
}

// ruleSource checks where a rule reads, and warns of topics that never get
// there.
func (l *loader) ruleSource(from *config.Section) {
	name, filters := streamEvents, []*config.Section{from}
	if from.Kind() == config.Mapping {
		if from.Has("rule") || from.Has("every") || from.Has("cron") {
			return
		}
		if named, ok := text(from.Child("stream")); ok {
			name = named
		}
		filters = listOf(from.Child("topics"))
	}
	stream := l.stream(name)
	if stream == nil {
		l.errs.Add(from.Errorf("stream", "%s", l.unknownStream(name)))
		return
	}
	for _, s := range filters {
		filter, ok := text(s)
		if !ok {
			continue
		}
		filter = rules.PlainFilter(filter)
		if len(stream.Topics) > 0 && !slices.ContainsFunc(stream.Topics, func(t string) bool { return event.Overlap(t, filter) }) {
			l.c.Warnings.Add(s.Errorf("", "nothing will match: the stream %s takes only %s", name, strings.Join(stream.Topics, ", ")))
		}
		for _, other := range l.c.Streams {
			if name == streamEvents && slices.ContainsFunc(other.Topics, func(t string) bool { return event.Covers(t, filter) }) {
				l.c.Warnings.Add(s.Errorf("", "nothing will match: these topics go to the stream %s; read it with from: {stream: %s}", other.Name, other.Name))
			}
		}
	}
}

// immediate checks that immediate rules read edges of inputs and command outputs.
func (l *loader) immediate(sections []*config.Section, set *devices.Set) {
	if l.c.Rules == nil || set == nil {
		return // there are mistakes to be seen to first
	}
	edges, commands := set.EdgeTopics(), set.CommandTopics()
	for i, r := range l.c.Rules.Rules() {
		s := sections[i]
		if !r.Immediate {
			continue
		}
		for _, filter := range r.Filters {
			if !slices.ContainsFunc(edges, func(topic string) bool { return event.Match(filter, topic) }) {
				l.errs.Add(s.Errorf("from", "an immediate rule acts on edges of inputs, and none has a topic that %s matches; there are: %s", filter, listed(edges)))
			}
		}
		if !slices.ContainsFunc(r.Topics, func(filter string) bool {
			return slices.ContainsFunc(commands, func(topic string) bool { return event.Match(filter, topic) })
		}) {
			l.errs.Add(s.Errorf("immediate", "no output of this rule commands a device, so there is nothing to do at once; the topics of commands are: %s", listed(commands)))
		}
	}
}

func listed(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

func listOf(s *config.Section) []*config.Section {
	switch {
	case s == nil:
		return nil
	case s.Kind() == config.List:
		return s.Items()
	}
	return []*config.Section{s}
}

func text(s *config.Section) (string, bool) {
	var t string
	if s == nil || s.Kind() != config.Scalar || s.Decode(&t) != nil {
		return "", false
	}
	return t, true
}
