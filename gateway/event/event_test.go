package event

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestFiltersMatchAsTheSpecificationSays(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		// The examples of MQTT 5, section 4.7.1.
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/#", "sport", true},
		{"#", "anything/at/all", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		// Section 4.7.2: topics that begin with $.
		{"#", "$SYS/uptime", false},
		{"+/uptime", "$SYS/uptime", false},
		{"$SYS/#", "$SYS/uptime", true},
		{"$SYS/+", "$SYS/uptime", true},
		// Names are compared as they are.
		{"a/b", "a/b", true},
		{"a/b", "A/b", false},
		{"a/b", "a/b/", false},
		{"a/b", "a", false},
		{"a", "a/b", false},
		{"a//c", "a//c", true},
		{"a/+/c", "a//c", true},
		{"a/#", "ab", false},
	} {
		if got := Match(c.filter, c.topic); got != c.want {
			t.Errorf("Match(%q, %q) = %v, want %v", c.filter, c.topic, got, c.want)
		}
	}
}

func TestUnusableTopicsAndFiltersAreNamed(t *testing.T) {
	for s, usable := range map[string]struct{ topic, filter bool }{
		"a/b": {true, true}, "/": {true, true}, "a/+/b": {false, true}, "a/#": {false, true}, "#": {false, true},
		"": {}, "a#": {}, "a+/b": {}, "#/a": {}, "a/#/b": {}, "a\x00b": {}, "\xff": {},
		strings.Repeat("x", MaxTopicBytes): {true, true}, strings.Repeat("x", MaxTopicBytes+1): {},
	} {
		for what, c := range map[string]struct {
			err  error
			want bool
		}{"topic": {CheckTopic(s), usable.topic}, "filter": {CheckFilter(s), usable.filter}} {
			if (c.err == nil) != c.want || c.err != nil && !errors.Is(c.err, ErrTopic) {
				t.Errorf("%.20q as a %s: %v", s, what, c.err)
			}
		}
	}
}

// matchByLevels is the plain way to say it.
func matchByLevels(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "#" || f[0] == "+") {
		return false
	}
	for i := range f {
		if f[i] == "#" {
			return true
		}
		if i >= len(t) || f[i] != "+" && f[i] != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}

func FuzzMatch(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Add("$a/+", "$a/b")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if CheckFilter(filter) != nil || CheckTopic(topic) != nil {
			return
		}
		if got, want := Match(filter, topic), matchByLevels(filter, topic); got != want {
			t.Errorf("Match(%q, %q) = %v, want %v", filter, topic, got, want)
		}
	})
}

func TestAnIdentityReadsAsGatewayEpochStreamOffset(t *testing.T) {
	e := Event{Epoch: 0xa0b, Offset: 42, Topic: "t"}
	if got, want := e.ID("pump", "events").String(), "pump/0000000000000a0b/events/42"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestTimesKeepTheirNanoseconds(t *testing.T) {
	at := time.Date(2026, 11, 21, 9, 0, 0, 123456789, time.FixedZone("", 3600))
	if got := At(at); got.String() != "2026-11-21T08:00:00.123456789Z" || !got.Std().Equal(at) {
		t.Errorf("%v became %v", at, got)
	}
	if At(time.Time{}) != 0 {
		t.Error("no time is not 0")
	}
}
