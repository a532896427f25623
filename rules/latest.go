package rules

import (
	"strings"

	"holdfast/rules/window"
)

// maxLatest bounds the topics whose last value is kept at one place of a rule.
const maxLatest = 10000

// listener keeps the last value of a field for each topic that a pattern
// selects, for latest().
type listener struct {
	id     string
	topic  template // of the topic that is asked for
	filter string
	field  *field
	slot   *slot
	values map[string]window.Value
	full   bool // a topic found no room
}

// hear takes the value from the event at hand, if it has one.
func (l *listener) hear(f *frame) {
	v, err := f.get(l.slot)
	if err != nil {
		return
	}
	value, ok := toValue(v)
	if !ok || value.Num != value.Num {
		return
	}
	topic := f.ev.Topic
	if was, known := l.values[topic]; known && was == value {
		return
	} else if !known {
		if len(l.values) >= maxLatest {
			l.full = true
			return
		}
		topic = strings.Clone(topic)
	}
	l.values[topic] = keep(value)
}

// last returns the value for the event at hand; nil if there is none yet.
func (l *listener) last(r *rule) (any, error) {
	topic, err := l.topic.fill(r, r.frame.ev.Topic, r.frame.ev.Client, "")
	if err != nil {
		return nil, err
	}
	return l.values[topic].Any(), nil
}
