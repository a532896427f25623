package event

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxTopicBytes is the longest topic name or filter that MQTT can carry.
const MaxTopicBytes = 65535

// ErrTopic is wrapped by every error of [CheckTopic] and [CheckFilter].
var ErrTopic = errors.New("invalid topic")

// CheckTopic reports what makes s unusable as a topic name
// [MQTT-3.3.2-2, MQTT-4.7.3-1 to -4].
func CheckTopic(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	if i := strings.IndexAny(s, "+#"); i >= 0 {
		return fmt.Errorf("%w: %q has the wildcard %q; wildcards are for filters only", ErrTopic, s, s[i])
	}
	return nil
}

// CheckFilter reports what makes s unusable as a topic filter: wildcards must
// stand for whole levels, and # must be the last one [MQTT-4.7.1-1 to -3].
func CheckFilter(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	for rest, more := s, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "#" && more:
			return fmt.Errorf("%w: %q: # must be the last level", ErrTopic, s)
		case level != "#" && level != "+" && strings.ContainsAny(level, "+#"):
			return fmt.Errorf("%w: %q: level %q: + and # must stand alone between slashes", ErrTopic, s, level)
		}
	}
	return nil
}

func checkText(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: it is empty", ErrTopic)
	case len(s) > MaxTopicBytes:
		return fmt.Errorf("%w: %d bytes, more than %d", ErrTopic, len(s), MaxTopicBytes)
	case strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%w: %q contains a null character", ErrTopic, s)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %q is not UTF-8", ErrTopic, s)
	}
	return nil
}

// Match reports whether the topic name matches the filter. Wildcards do not
// match the first level of a topic that begins with $ [MQTT-4.7.2-1]. Both
// must have passed their checks.
func Match(filter, topic string) bool {
	if topic != "" && topic[0] == '$' && filter != "" && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, filterRest, filterMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, topicRest, topicMore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case !filterMore && !topicMore:
			return true
		case !topicMore: // "a/#" matches its parent "a"
			return filterRest == "#"
		case !filterMore:
			return false
		}
		filter, topic = filterRest, topicRest
	}
}

// MatchAny reports whether the topic matches one of the filters.
func MatchAny(filters []string, topic string) bool {
	for _, f := range filters {
		if Match(f, topic) {
			return true
		}
	}
	return false
}
