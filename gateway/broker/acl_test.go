package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// acl reads rules from lines of the form "allow publish,subscribe a,b a/#,c".
func acl(t testing.TB, lines ...string) *ACL {
	t.Helper()
	var rules []Rule
	for _, line := range lines {
		f := strings.Fields(line)
		r := Rule{Deny: f[0] == "deny", Users: strings.Split(f[2], ","), Topics: strings.Split(f[3], ",")}
		for _, a := range strings.Split(f[1], ",") {
			r.Publish = r.Publish || a == "publish"
			r.Subscribe = r.Subscribe || a == "subscribe"
		}
		rules = append(rules, r)
	}
	a, err := NewACL(rules)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// plant is what most tests here allow.
func plant(t testing.TB) *ACL {
	return acl(t,
		"allow publish,subscribe pump,valve plant/%u/#",
		"allow subscribe pump,valve news",
		"allow subscribe panel #",
		"deny publish,subscribe * plant/secret/#",
	)
}

func TestWithAnACLAClientPublishesOnlyWhatItIsAllowed(t *testing.T) {
	l := newFakeLog()
	b := guarded(t, l, plant(t))
	c := as(t, b, v5, "pump", "p")
	c.publish(
		pub{topic: "plant/pump/a", qos: 1, id: 1}, pub{topic: "plant/valve/a", qos: 1, id: 2},
		pub{topic: "plant/valve/a", qos: 2, id: 3}, pub{topic: "plant/valve/a"}, pub{topic: "plant/pump/b", qos: 2, id: 4})
	c.expect(puback(1)...)
	c.expect(packet.TypePuback<<4, 3, 0, 2, packet.NotAuthorized)
	c.expect(packet.TypePubrec<<4, 3, 0, 3, packet.NotAuthorized)
	c.expect(pubrec(4)...)
	c.publish(pub{topic: "plant/pump/c", qos: 2, id: 3}) // the identifier is free
	c.expect(pubrec(3)...)
	if got := fmt.Sprint(l.topics(t, 3)); got != "[plant/pump/a plant/pump/b plant/pump/c]" {
		t.Errorf("got %s", got)
	}
	if n := b.Stats().Refused; n != 3 {
		t.Errorf("counted %d refused messages, want 3", n)
	}
	old := as(t, b, v4, "pump", "old")
	old.publish(pub{topic: "plant/pump/d", qos: 1, id: 1}, pub{topic: "plant/valve/a", qos: 1, id: 2}, pub{topic: "plant/pump/e", qos: 1, id: 3})
	old.expect(puback(1)...)
	old.closed(0)
	if s := b.Stats(); s.Refused != 4 || violations(b) != 0 {
		t.Errorf("counted %+v, want 4 refused messages", s)
	}
}

func TestWithoutAnACLEverybodyMayDoEverything(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := guarded(t, newFakeLog(), nil)
		c := as(t, b, v, "pump", "p")
		c.subscribe(filter{"#", 1}, filter{"$SYS/#", 0})
		c.publish(pub{topic: "plant/valve", qos: 1, id: 1})
	})
}

func TestAClientCannotGetRoundTheACLByAWildcard(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := guarded(t, newFakeLog(), plant(t))
		c := as(t, b, v, "pump", "p")
		c.refused("#", "+/#", "plant/#", "plant/+", "plant/+/a", "plant/+/#", "+/pump/a", "plant/valve/#", "plant/secret/#", "$SYS/#", "$SYS/broker/version")
		c.subscribe(filter{"plant/pump", 0}, filter{"plant/pump/#", 0}, filter{"plant/pump/+/x", 0})
		// The panel may see everything; what is denied of that is left out.
		panel := as(t, b, v, "panel", "x")
		panel.refused("plant/secret", "plant/secret/#", "plant/secret/+", "$SYS/#")
		panel.subscribe(filter{"#", 0})
		route(b, []event.Event{ev("plant/secret", "1", 0), ev("plant/secret/a", "2", 0), ev("plant/valve/a", "3", 0)})
		panel.receives(received{Topic: "plant/valve/a", Payload: "3"})
		panel.silence()
		c.silence()
	})
}

func TestAClientCannotGetRoundTheACLByASharedSubscription(t *testing.T) {
	bothVersions(t, func(t *testing.T, v version) {
		b := guarded(t, newFakeLog(), plant(t))
		c := as(t, b, v, "pump", "p")
		c.refused("$share/g/#", "$share/g/plant/#", "$SHARE/g/plant/valve/#", "$share/plant/pump/#", "$share/g/$SYS/#", "$share/g/+/pump/a")
		c.subscribe(filter{"$share/g/plant/pump/#", 0}, filter{"$SHARE/i/plant/pump", 0})
		// A member that may not have a message does not take it from the others.
		panel := as(t, b, v, "panel", "x")
		panel.subscribe(filter{"$share/h/#", 0})
		route(b, []event.Event{ev("plant/secret/a", "1", 0), ev("plant/secret/a", "2", 0), ev("plant/pump/a", "3", 0)})
		c.receives(received{Topic: "plant/pump/a", Payload: "3"})
		panel.receives(received{Topic: "plant/pump/a", Payload: "3"})
		panel.silence()
	})
	t.Run("of which another member may have the message", func(t *testing.T) {
		b := guarded(t, newFakeLog(), acl(t, "allow subscribe pump,valve #", "deny subscribe pump a/#"))
		no, yes := as(t, b, v5, "pump", "p"), as(t, b, v5, "valve", "v")
		no.subscribe(filter{"$share/g/#", 0})
		yes.subscribe(filter{"$share/g/#", 0})
		for range 4 {
			route(b, []event.Event{ev("a/b", "x", 0)})
			yes.receives(received{Topic: "a/b", Payload: "x"})
		}
		no.silence()
	})
}

func TestAClientCannotGetRoundTheACLByATopicAlias(t *testing.T) {
	l := newFakeLog()
	b := guarded(t, l, plant(t))
	c := as(t, b, v5, "pump", "p")
	alias := func(n byte) []byte { return []byte{packet.PropTopicAlias, 0, n} }
	c.publish(
		pub{topic: "plant/valve/a", qos: 1, id: 1, props: alias(1)}, // refused, but the alias is set
		pub{qos: 1, id: 2, props: alias(1)},
		pub{topic: "plant/pump/a", qos: 1, id: 3, props: alias(2)},
		pub{qos: 1, id: 4, props: alias(2)})
	c.expect(packet.TypePuback<<4, 3, 0, 1, packet.NotAuthorized)
	c.expect(packet.TypePuback<<4, 3, 0, 2, packet.NotAuthorized)
	c.expect(puback(3)...)
	c.expect(puback(4)...)
	// An alias keeps its topic when the rules change, but not its permission.
	a := *b.access.Load()
	a.ACL = acl(t, "allow publish pump plant/valve/#")
	b.SetAccess(a)
	c.publish(pub{qos: 1, id: 5, props: alias(1)}, pub{qos: 1, id: 6, props: alias(2)})
	c.expect(puback(5)...)
	c.expect(packet.TypePuback<<4, 3, 0, 6, packet.NotAuthorized)
	if got := fmt.Sprint(l.topics(t, 3)); got != "[plant/pump/a plant/pump/a plant/valve/a]" {
		t.Errorf("got %s", got)
	}
}

func TestAClientCannotGetRoundTheACLByItsName(t *testing.T) {
	for _, name := range []string{"+", "#", "a/b", "a+", "valve/#", "/", "$SYS", "$share"} {
		r := newRights(&Access{ACL: acl(t,
			"allow publish,subscribe * plant/%u/#,%u/x,plant/by-%c,%c/#",
			"allow publish,subscribe * free/#", "deny publish * free/%c/x")}, name, name)
		for _, topic := range []string{"plant/" + name + "/a", "plant/valve/a", name + "/x", "valve/x", "plant/by-" + name, "$SYS/broker", "$SYS/x"} {
			if name[0] == '$' && strings.HasPrefix(topic, "plant/") && strings.Contains(topic, name) {
				continue // there the name is one like any other
			}
			if r.mayPublish(topic) || r.toSubscribe(topic).allowed {
				t.Errorf("a client called %q may use %s", name, topic)
			}
		}
		if name[0] != '$' && r.mayPublish("free/"+name+"/x") {
			t.Errorf("a client called %q gets round what is denied", name)
		}
	}
}

func TestRulesOfAnACL(t *testing.T) {
	a := acl(t,
		"allow publish,subscribe pump a/%u/%c/#,p%%",
		"allow publish * public/+/x",
		"deny publish pump public/no/x",
		"allow subscribe panel $SYS/#,#",
		"deny subscribe * a/+/hidden/#")
	for _, c := range []struct {
		user, do, topic string
		want            bool
	}{
		{"pump", "publish", "a/pump/c", true},
		{"pump", "publish", "a/pump/c/1", true},
		{"pump", "publish", "a/pump/d", false},
		{"pump", "publish", "p%", true},
		{"pump", "publish", "public/1/x", true},
		{"pump", "publish", "public/no/x", false},
		{"valve", "publish", "public/no/x", true},
		{"", "publish", "public/1/x", true},
		{"", "publish", "a//c", false},
		{"valve", "publish", "a/valve/c", false},
		{"panel", "publish", "$SYS/x", false},
		{"panel", "subscribe", "$SYS/broker/#", true},
		{"panel", "subscribe", "#", true},
		{"panel", "subscribe", "+/+", true},
		{"panel", "subscribe", "a/b/hidden", false},
		{"panel", "subscribe", "a/+/hidden/x/#", false},
		{"panel", "subscribe", "$share/g/a/+/hidden/x", false},
		{"pump", "subscribe", "public/1/x", false},
		{"pump", "subscribe", "a/pump/c/+/#", true},
		{"pump", "subscribe", "a/pump/+", false},
	} {
		r := newRights(&Access{ACL: a}, c.user, "c")
		got := r.mayPublish(c.topic)
		if c.do == "subscribe" {
			got = r.toSubscribe(c.topic).allowed
		}
		if got != c.want {
			t.Errorf("%q may %s %s: got %v", c.user, c.do, c.topic, got)
		}
	}
}

func TestTheFirstRuleThatDeniesDecidesElseTheFirstThatAllows(t *testing.T) {
	a := acl(t,
		"allow publish * plant/#",
		"allow publish,subscribe pump plant/pump/#",
		"deny publish pump plant/pump/set/#",
		"deny publish,subscribe * plant/+/set/valve",
		"allow publish * plant/pump/set/valve")
	for i := range a.rules[:4] {
		a.rules[i].At = fmt.Sprintf("plant.yaml:%d:7", i+10)
	}
	for _, c := range []struct{ user, do, topic, want string }{
		{"pump", "publish", "plant/pump/a", "rule 1 of the acl (plant.yaml:10:7) allows it"},
		{"pump", "publish", "plant/pump/set/a", "rule 3 of the acl (plant.yaml:12:7) denies it"},
		{"pump", "publish", "plant/pump/set/valve", "rule 3 of the acl (plant.yaml:12:7) denies it"},
		{"valve", "publish", "plant/pump/set/a", "rule 1 of the acl (plant.yaml:10:7) allows it"},
		{"valve", "publish", "plant/pump/set/valve", "rule 4 of the acl (plant.yaml:13:7) denies it"},
		{"pump", "publish", "other", "no rule of the acl allows it"},
		{"pump", "subscribe", "plant/pump/#", "rule 2 of the acl (plant.yaml:11:7) allows it"},
		{"pump", "subscribe", "$share/g/plant/pump/#", "rule 2 of the acl (plant.yaml:11:7) allows it"},
		{"pump", "subscribe", "plant/pump/set/valve", "rule 4 of the acl (plant.yaml:13:7) denies it"},
		{"valve", "subscribe", "plant/pump/#", "no rule of the acl allows it"},
	} {
		r := newRights(&Access{ACL: a}, c.user, "c")
		got := r.toPublish(c.topic)
		if c.do == "subscribe" {
			got = r.toSubscribe(c.topic)
		}
		if got.String() != c.want {
			t.Errorf("%q may %s %s? got %q, want %q", c.user, c.do, c.topic, got, c.want)
		}
	}
	if got := newRights(&Access{}, "", "c").toPublish("a").String(); got != "there is no acl" {
		t.Errorf("got %q", got)
	}
}

// logBuffer keeps what is logged while others log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestTheLogNamesTheRuleThatRefuses(t *testing.T) {
	var log logBuffer
	a := acl(t, "allow publish,subscribe pump plant/#", "deny publish,subscribe pump plant/secret/#")
	a.rules[1].At = "plant.yaml:9:7"
	b := start(t, newFakeLog(), func(o *Options) {
		o.Users, o.ACL = users(t, "pump", "pump"), a
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	w := event.Event{Topic: "plant/secret/will", Payload: []byte("x")}
	refused := dial(t, b, v5)
	refused.send(connectPacket(connectOptions{v: v5, id: "w", user: "pump", password: "pump", will: &w}))
	refused.connack(packet.NotAuthorized)
	c := as(t, b, v5, "pump", "p")
	c.refused("plant/secret/a")
	c.publish(pub{topic: "plant/secret/b", qos: 1, id: 1})
	c.expect(packet.TypePuback<<4, 3, 0, 1, packet.NotAuthorized)
	c.subscribe(filter{"plant/#", 0})
	route(b, []event.Event{ev("plant/secret/c", "1", 0), ev("plant/d", "2", 0)})
	c.receives(received{Topic: "plant/d", Payload: "2"})
	for _, what := range []string{
		`msg="mqtt will refused" client=w err="user \"pump\" may not publish to plant/secret/will: `,
		`msg="mqtt subscription refused" client=p err="user \"pump\" may not subscribe to plant/secret/a: `,
		`msg="mqtt message refused" client=p err="user \"pump\" may not publish to plant/secret/b: `,
		`msg="mqtt message not delivered" client=p err="user \"pump\" may not receive plant/secret/c: `,
	} {
		if want := what + `rule 2 of the acl (plant.yaml:9:7) denies it"`; !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, log.String())
		}
	}
}

func TestMistakesInRulesAreNamed(t *testing.T) {
	for pattern, want := range map[string]string{
		"a/%i": "%i", "a/%": "%", "a/#/b": "#", "a+%u": "+", "": "empty", "$share/g/a": "shared",
		strings.Repeat("/", 200): "levels",
	} {
		if err := CheckPattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", pattern, err, want)
		}
	}
	for _, r := range []Rule{
		{Publish: true, Topics: []string{"a"}}, {Users: []string{"*"}, Topics: []string{"a"}},
		{Users: []string{"*"}, Publish: true}, {Users: []string{"*"}, Publish: true, Topics: []string{"%x"}},
	} {
		if _, err := NewACL([]Rule{r}); err == nil || !strings.Contains(err.Error(), "acl rule 1") {
			t.Errorf("%+v: got %v", r, err)
		}
	}
}

// FuzzFill: with names in it, a pattern allows no topic in which a level of
// the pattern without a name differs, and no topic of another depth.
func FuzzFill(f *testing.F) {
	f.Add("plant/%u/x", "+", "c", "plant/a/x")
	f.Add("%c/%u", "a", "$SYS", "$SYS/a")
	f.Add("a/%u%c/#", "x/y", "#", "a/b/c")
	f.Fuzz(func(t *testing.T, pattern, user, client, topic string) {
		if CheckPattern(pattern) != nil || event.CheckTopic(topic) != nil {
			return
		}
		filter, ok := fill(pattern, user, client)
		wide, _ := fill(pattern, "w", "w")
		if ok && (strings.Count(filter, "/") != strings.Count(wide, "/") || strings.Count(filter, "+") != strings.Count(wide, "+") ||
			strings.Count(filter, "#") != strings.Count(wide, "#") || (filter[0] == '$') != (pattern[0] == '$')) {
			t.Fatalf("%q for %q and %q is %q", pattern, user, client, filter)
		}
	})
}
