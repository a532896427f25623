package gateway

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/gateway/event"
	"holdfast/gateway/ops"
	"holdfast/rules"
)

// payloads are the payloads of events, one a line.
func payloadsOf(events []event.Event) string {
	var all []string
	for _, e := range events {
		all = append(all, e.Topic+" "+string(e.Payload))
	}
	return strings.Join(all, "\n")
}

func send(t *testing.T, g *Gateway, topic, payload string) {
	t.Helper()
	c := client(t, g, "p"+topic)
	wait(t, c.Publish(topic, 1, false, payload))
	c.Disconnect(10)
}

// stateOf waits until a rule's state, as JSON, contains a text.
func stateOf(t *testing.T, g *Gateway, rule, want string) {
	t.Helper()
	until(t, "the state of "+rule+" has "+want, func() bool {
		b, err := g.RuleState(t.Context(), rule, "")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), want)
	})
}

// evaluated waits until the rules have evaluated every event.
func evaluated(t *testing.T, g *Gateway) {
	t.Helper()
	until(t, "every event is evaluated", func() bool {
		return !slices.ContainsFunc(g.Status().Rules, func(r ops.RuleStatus) bool { return r.Processor.Lag > 0 })
	})
}

const tableRule = `
tables:
  rates: {file: rates.csv, key: id}
rules:
  - name: bill
    from: meter/{id}
    emit: {stream: bills, topic: bill, fields: {sum: 'total(kwh * lookup("rates", id, "rate"))'}}
destinations:
  all: {type: memory, from: [bills], batch: {linger: 0s}}
`

// After a checkpoint is lost the rules work their state out again, with the
// versions of the lookup tables that were in force at each event.
func TestATableChangesWhileRulesRunAndASecondRunUsesTheVersionsOfThen(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	file := filepath.Join(dir, "rates.csv")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("id,rate\na,2\n")
	g, stop := run(t, dir, tableRule, sink)
	send(t, g, "meter/a", `{"kwh":10}`)
	sink.await(t, "bills", 1)

	write("id,rate\na,300\n")
	until(t, "the new version is taken up", func() (taken bool) {
		p, err := g.processorOf("bill")
		if err != nil {
			t.Fatal(err)
		}
		ask := func() error { taken = p.engine.Tables()["rates"] == versionOf(t, file); return nil }
		if err := p.asks.put(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		return taken
	})
	send(t, g, "meter/a", `{"kwh":1}`)
	if got, want := payloadsOf(sink.await(t, "bills", 2)), "bill {\"sum\":20}\nbill {\"sum\":320}"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	stop()

	if err := os.Remove(filepath.Join(dir, "store", "checkpoints", "events.checkpoint")); err != nil {
		t.Fatal(err)
	}
	write("id,rate\na,4000\n") // while it was down
	g, _ = run(t, dir, tableRule, sink)
	send(t, g, "meter/a", `{"kwh":1}`)
	if got, want := payloadsOf(sink.await(t, "bills", 3)[2:]), `bill {"sum":4320}`; got != want {
		t.Errorf("after the second run: got %s, want %s", got, want)
	}
}

func versionOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tab, err := rules.ParseTable("rates", filepath.Base(file), "id", b)
	if err != nil {
		t.Fatal(err)
	}
	return tab.Version
}

const controlled = `
payloads: {'raw/#': text, 'lora/#': cbor}
rules:
  - name: counted
    from: raw/+
    where: value > 1
    emit: {stream: counts, topic: n, fields: {n: counter(true)}}
  - name: light
    from: {rule: counted}
    publish: {topic: light/set, payload: '"ON"', retain: true}
destinations:
  all: {type: memory, from: [counts, local], batch: {linger: 0s}}
`

func TestARuleIsDisabledUntilItIsEnabledAgainOverRestartsAndReloads(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	g, stop := run(t, dir, controlled, sink)
	send(t, g, "raw/a", "5")
	sink.await(t, "counts", 1)
	if got := payloadsOf(sink.await(t, "local", 1)); got != "light/set ON" {
		t.Errorf("published: %s", got)
	}
	if err := g.SetRule(t.Context(), "countd", false); err == nil || !strings.Contains(err.Error(), `did you mean "counted"?`) {
		t.Errorf("an unknown rule: %v", err)
	}
	if err := g.SetRule(t.Context(), "counted", false); err != nil {
		t.Fatal(err)
	}
	stateOf(t, g, "counted", `"disabled":true`)
	send(t, g, "raw/a", "6")
	evaluated(t, g) // or it would count when the rule is enabled again
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	stateOf(t, g, "counted", `"disabled":true`)
	stop()

	g, _ = run(t, dir, controlled, sink)
	stateOf(t, g, "counted", `"disabled":true`)
	if st := g.Status(); st.State != "degraded" || !strings.Contains(strings.Join(st.Reasons, "\n"), "the rule counted is disabled") {
		t.Errorf("%s: %q", st.State, st.Reasons)
	}
	if err := g.SetRule(t.Context(), "counted", true); err != nil {
		t.Fatal(err)
	}
	send(t, g, "raw/a", "7")
	if got := payloadsOf(sink.await(t, "counts", 2)); got != "n {\"n\":1}\nn {\"n\":2}" {
		t.Errorf("counted:\n%s", got)
	}
	var s rules.State
	b, err := g.RuleState(t.Context(), "counted", "raw/a")
	if err != nil || json.Unmarshal(b, &s) != nil || s.Keys != 1 || s.Memory[0].Calls["counter(true)"] != 2. {
		t.Errorf("%s, %v", b, err)
	}
}

func TestTimersOfRulesTrigger(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	_, _ = run(t, dir, `
rules:
  - {name: beat, from: {every: 100ms}, emit: {stream: beats, topic: beat}}
destinations:
  all: {type: memory, from: [beats], batch: {linger: 0s}}
`, sink)
	beats := sink.await(t, "beats", 3)
	if a, b := beats[0].Time, beats[1].Time; b-a < 100e6 || a%100e6 != 0 {
		t.Errorf("at %v and %v", a, b)
	}
}

func TestWhatARuleReadsAndLooksUpIsCheckedInTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "t.csv"), []byte("id,limit\na,1\na,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(path, []byte(`
mqtt: {listen: off}
payloads: {'a/#/b': text, c: xml, d: cbr}
tables: {t: {file: t.csv, key: id}, u: {file: none.csv, key: id}, w: {file: t.csv}}
rules:
  - {name: r, from: {stream: nowhere}, where: "1 +", emit: [{stream: made}, {stream: more}]}
  - {name: s, from: {stream: more}, emit: {stream: out}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load([]string{path}, Parts{})
	for _, want := range []string{
		`# must be the last level`, `"xml" is not a format of payloads; known are json, cbor, msgpack, senml, senml-cbor, text`, `did you mean "cbor"?`,
		`line 3: the key "a" is there twice`, "no such file", `the required key "key" is missing`,
		`there is no stream "nowhere"`, "the expression ends too early",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

// Otherwise each letter would make another one, for ever.
func TestADeadLetterThatARuleFailsOnIsNotAnotherOne(t *testing.T) {
	sink := newMemory()
	g, stop := run(t, t.TempDir(), `
streams: {other: {topics: [other/#]}}
rules:
  - {name: bad, from: q, where: missing > 1, emit: {stream: out}}
  - {name: fails, from: {stream: dead}, where: missing > 2, emit: {stream: out}}
  - {name: passes, from: {stream: dead}, emit: [{stream: seen, topic: "seen/{topic}"}, {stream: other, topic: "other/{topic}"}]}
  - {name: later, from: {stream: other}, where: missing > 3, emit: {stream: out}}
destinations:
  all: {type: memory, from: [seen], batch: {linger: 0s}}
`, sink)
	defer stop()
	for n, payload := range []string{"1", "2", "3"} {
		send(t, g, "q", payload)
		sink.await(t, "seen", n+1)
	}
	if got, want := payloadsOf(sink.await(t, "seen", 3)), "seen/q 1\nseen/q 2\nseen/q 3"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := g.log.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, next := g.log.Stream(streamDead).Bounds(); next != 4 {
		t.Errorf("there are %d dead letters of 3 events", next-1)
	}
}
