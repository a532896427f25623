package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"

	"holdfast/gateway/event"
)

// Rule allows or denies users to publish or subscribe to topics.
type Rule struct {
	// Users are names; "*" is everybody, "" whoever has no name.
	Users []string
	// Deny takes away what other rules allow.
	Deny bool
	// Publish and Subscribe say what the rule is about.
	Publish, Subscribe bool
	// Topics are filters in which %u stands for the user, %c for the client id
	// and %% for a percent sign. A name that is empty, has one of the characters
	// + # and /, or would make up a topic that begins with $, stands for nothing:
	// a rule that allows then matches no topic, and one that denies every topic
	// from the level on that the name would be in.
	Topics []string
	// At says in the log where the rule stands, as file:line:col. It may be empty.
	At string
}

// ACL are the rules of what clients may do. They are looked at in the order in
// which they are written. The first one that denies decides, wherever it
// stands; if none does, the first one that allows; what no rule allows is
// denied. The log names the rule that decides.
//
// To publish, the topic must match. To subscribe, the whole filter must lie
// within one that is allowed and not within one that is denied; of what it
// matches, the client then receives only topics that are allowed and not
// denied. A shared subscription counts as its filter. Topics that begin with
// $ match only if the rule spells out their first level.
type ACL struct{ rules []Rule }

// NewACL returns an ACL of the rules. Without any, nobody may do anything.
func NewACL(rules []Rule) (*ACL, error) {
	for i, r := range rules {
		switch {
		case len(r.Users) == 0:
			return nil, fmt.Errorf("acl rule %d: it names no users; '*' is everybody", i+1)
		case !r.Publish && !r.Subscribe:
			return nil, fmt.Errorf("acl rule %d: it is neither about publish nor about subscribe", i+1)
		case len(r.Topics) == 0:
			return nil, fmt.Errorf("acl rule %d: it names no topics; '#' is all", i+1)
		}
		for _, t := range r.Topics {
			if err := CheckPattern(t); err != nil {
				return nil, fmt.Errorf("acl rule %d: %w", i+1, err)
			}
		}
	}
	return &ACL{slices.Clone(rules)}, nil
}

// CheckPattern reports what makes s unusable as one of a rule's topics.
func CheckPattern(s string) error {
	if mqtt.IsSharedFilter(s) {
		return fmt.Errorf("%q: a shared subscription counts as its filter; write that, without %s", s, "$share and the group")
	}
	for rest := s; ; {
		_, after, ok := strings.Cut(rest, "%")
		if !ok {
			break
		}
		if after == "" || !strings.ContainsRune("uc%", rune(after[0])) {
			return fmt.Errorf("%q: %% must be followed by u (the user), c (the client id) or another %%", s)
		}
		rest = after[1:]
	}
	filter, _ := fill(s, "u", "c")
	if err := event.CheckFilter(filter); err != nil {
		return err
	}
	if strings.Count(filter, "/") >= maxLevels {
		return errors.New("the topic has too many levels")
	}
	return nil
}

// fill puts names into a pattern. ok is false if one cannot stand there; the
// filter then matches everything from that level on.
func fill(pattern, user, client string) (filter string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '%' {
			b.WriteByte(pattern[i])
			continue
		}
		i++ // CheckPattern has seen to it that there is more
		name := "%"
		switch pattern[i] {
		case 'u':
			name = user
		case 'c':
			name = client
		}
		if name == "" || strings.ContainsAny(name, "+#/") || b.Len() == 0 && name[0] == '$' {
			sofar := b.String()
			return sofar[:strings.LastIndexByte(sofar, '/')+1] + "#", false
		}
		b.WriteString(name)
	}
	return b.String(), true
}

// rights are what one client may do: the rules that are about it, with its
// names filled in.
type rights struct {
	access    *Access
	publish   topics
	subscribe topics
}

// topics are the filters of the rules about publishing or subscribing, as they
// are written.
type topics struct {
	all   bool // there are no rules: everything is allowed
	rules []ruleTopic
}

// ruleTopic is one filter of a rule.
type ruleTopic struct {
	filter string
	deny   bool
	number int // of the rule, from 1
	at     string
}

// verdict is what the rules say about a topic or a filter.
type verdict struct {
	allowed bool
	rule    int    // the number of the rule that decides; 0 if none is about it
	at      string // where that stands, if it is known
}

// String says which rule decides, as in "rule 2 of the acl (plant.yaml:7:7)
// denies it".
func (v verdict) String() string {
	if v.rule == 0 {
		if v.allowed {
			return "there is no acl"
		}
		return "no rule of the acl allows it"
	}
	at, what := "", "denies"
	if v.at != "" {
		at = " (" + v.at + ")"
	}
	if v.allowed {
		what = "allows"
	}
	return fmt.Sprintf("rule %d of the acl%s %s it", v.rule, at, what)
}

func newRights(a *Access, user, client string) *rights {
	r := &rights{access: a}
	if a.ACL == nil {
		r.publish.all, r.subscribe.all = true, true
		return r
	}
	for i := range a.ACL.rules {
		rule := &a.ACL.rules[i]
		if !slices.Contains(rule.Users, "*") && !slices.Contains(rule.Users, user) {
			continue
		}
		for _, pattern := range rule.Topics {
			filter, ok := fill(pattern, user, client)
			if !ok && !rule.Deny {
				continue
			}
			t := ruleTopic{filter: filter, deny: rule.Deny, number: i + 1, at: rule.At}
			if rule.Publish {
				r.publish.rules = append(r.publish.rules, t)
			}
			if rule.Subscribe {
				r.subscribe.rules = append(r.subscribe.rules, t)
			}
		}
	}
	return r
}

// judge says whether a topic or all that a filter matches is allowed. What is
// denied of a filter is not looked at unless that is all of it: it is left out
// when messages are delivered.
func (t *topics) judge(filter string) verdict {
	v := verdict{allowed: t.all}
	for i := range t.rules {
		r := &t.rules[i]
		if v.allowed && !r.deny || !event.Covers(r.filter, filter) {
			continue
		}
		v = verdict{!r.deny, r.number, r.at}
		if r.deny {
			break
		}
	}
	return v
}

// toPublish says whether the client may publish to a topic. Those that begin
// with $ are the broker's.
func (r *rights) toPublish(topic string) verdict {
	if topic[0] == '$' {
		return verdict{}
	}
	return r.publish.judge(topic)
}

func (r *rights) mayPublish(topic string) bool { return r.toPublish(topic).allowed }

// toSubscribe says whether the client may subscribe to a filter, or receive a
// message of a topic.
func (r *rights) toSubscribe(filter string) verdict {
	if mqtt.IsSharedFilter(filter) {
		_, filter, _ = strings.Cut(filter, "/")
		_, filter, _ = strings.Cut(filter, "/")
	}
	return r.subscribe.judge(filter)
}

// mayReceive reports whether the session's client may have a message of a topic
// at this moment. That it may not is nothing to warn of: a subscription to more
// than is allowed gets what is.
func (s *session) mayReceive(b *Broker, topic string) bool {
	v := s.rights(b).toSubscribe(topic)
	if !v.allowed && b.log.Enabled(context.Background(), slog.LevelDebug) {
		b.log.Debug("mqtt message not delivered", "client", s.id, "err", fmt.Errorf("user %q may not receive %s: %v", s.user, topic, v))
	}
	return v.allowed
}

// rights returns what the session's client may do at this moment.
func (s *session) rights(b *Broker) *rights {
	a := b.access.Load()
	r := s.lastRights.Load()
	if r == nil || r.access != a {
		r = newRights(a, s.user, s.id)
		s.lastRights.Store(r)
	}
	return r
}
