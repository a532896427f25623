package packet

import (
	"bytes"
	"fmt"
	"strings"

	"holdfast/gateway/event"
)

// Limits are what is taken from a client. All of them are to be set.
type Limits struct {
	TopicBytes  int // of a topic, a topic filter or a client identifier
	TopicLevels int // of a topic or topic filter
	Filters     int // in one SUBSCRIBE or UNSUBSCRIBE
}

// CheckTopic reports what makes the topic name of a PUBLISH or a will unusable.
// It may be empty.
func (l *Limits) CheckTopic(b []byte) error {
	switch {
	case !validText(b):
		return malformed("topic is not UTF-8 text") // [MQTT-1.5.4-1]
	case bytes.IndexByte(b, '+') >= 0 || bytes.IndexByte(b, '#') >= 0:
		return &Violation{Reason: TopicNameInvalid, What: "topic with a wildcard"} // [MQTT-3.3.2-2]
	}
	return l.checkSize(b, TopicNameInvalid, "topic")
}

func (l *Limits) checkSize(b []byte, reason byte, what string) error {
	switch {
	case len(b) > l.TopicBytes:
		return &Violation{Reason: reason, What: fmt.Sprintf("%s of more than %d bytes", what, l.TopicBytes)}
	case bytes.Count(b, []byte{'/'}) >= l.TopicLevels:
		return &Violation{Reason: reason, What: fmt.Sprintf("%s with more than %d levels", what, l.TopicLevels)}
	}
	return nil
}

func (l *Limits) checkFilter(b []byte) (filter string, shared bool, err error) {
	if !validText(b) {
		return "", false, malformed("topic filter is not UTF-8 text")
	}
	if err := l.checkSize(b, TopicFilterInvalid, "topic filter"); err != nil {
		return "", false, err
	}
	filter = string(b)
	topics := filter
	if len(filter) >= 6 && strings.EqualFold(filter[:6], "$share") && (len(filter) == 6 || filter[6] == '/') {
		group, rest, ok := strings.Cut(filter[min(7, len(filter)):], "/")
		if !ok || group == "" || strings.ContainsAny(group, "+#") { // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
			return filter, true, &Violation{Reason: TopicFilterInvalid, What: "shared subscription without a proper share name"}
		}
		shared, topics = true, rest
	}
	if err := event.CheckFilter(topics); err != nil {
		return filter, shared, &Violation{Reason: TopicFilterInvalid, What: err.Error()}
	}
	return filter, shared, nil
}
