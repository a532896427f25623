package gateway

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/ops"
	"holdfast/rules"
)

// rewrite changes the configuration of a gateway.
func rewrite(t *testing.T, dir, old, text string) {
	t.Helper()
	path := filepath.Join(dir, "holdfast.yaml")
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.ReplaceAll(string(b), old, text)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestADeadLetterHasTheWholeEventInIt(t *testing.T) {
	for name, e := range map[string]event.Event{
		"plain": {Epoch: 7, Offset: 9, Received: 1e18 + 5, Topic: "a/b", Source: "mqtt", Client: "c", Payload: []byte("x"), QoS: 2, Retain: true},
		"full": {
			Epoch: 7, Offset: 9, Time: 5e17, Received: 1e18, Mono: 3, Boot: 2, Topic: "a", Source: "rule", Client: "r", Key: "k", ContentType: "text/plain", Trace: "00-1",
			Payload: []byte{0xff}, Cause: &event.ID{Gateway: "g", Epoch: 1 << 63, Stream: "events", Offset: 4},
			Properties: &event.Properties{HasExpiry: true, Expiry: 9, UTF8: true, ResponseTopic: "r", CorrelationData: []byte{1},
				User: []event.Property{{Name: "holdfast-reason", Value: "mine"}, {Name: "holdfast-rule", Value: "mine too"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			why := letter{destination: "cloud", reason: reasonRefused, err: "400 Bad Request", attempts: 3, first: 11, last: 12}
			d := deadEvent(&e, "gw", "events", why)
			d.Epoch, d.Offset = 99, 100 // those of the stream dead
			got, read := readLetter(&d)
			if diff := cmp.Diff(e, got); diff != "" {
				t.Errorf("the event, -was +is:\n%s", diff)
			}
			if read != why {
				t.Errorf("why: %+v, want %+v", read, why)
			}
			if d.Cause == nil || d.Cause.String() != "gw/0000000000000007/events/9" {
				t.Errorf("the cause is %v", d.Cause)
			}
			// Refused once more, it is a letter like the first.
			again := deadEvent(&got, "gw", "events", why)
			if second, _ := readLetter(&again); cmp.Diff(e, second) != "" {
				t.Errorf("the second time the event is %+v", second)
			}
		})
	}
}

func TestReasonsAreAClosedList(t *testing.T) {
	f := rules.Failure{Rule: "hot", Err: errors.New("division by zero")}
	if d := ruleLetter(&f, "g", "events", 1); reasonIn(&d) != reasonRule {
		t.Errorf("an expression that fails is %s", reasonIn(&d))
	}
	if err := checkLetterQuery(ops.LetterQuery{Reason: "bad luck"}); err == nil {
		t.Error("a reason that does not exist was taken")
	}
}

func reasonIn(d *event.Event) string { _, l := readLetter(d); return l.reason }

// picky refuses events that say bad for as long as it is told to.
func picky() (*memory, *atomic.Bool) {
	sink, refuse := newMemory(), &atomic.Bool{}
	refuse.Store(true)
	sink.fail = func(b forward.Batch) error {
		for _, e := range b.Events {
			if refuse.Load() && strings.Contains(string(e.Payload), "bad") {
				return forward.Permanent(errors.New("422: it is bad"))
			}
		}
		return nil
	}
	return sink, refuse
}

const refusing = `
rules:
  - {name: hot, from: plant/+/temp, where: temperature > 80, emit: {stream: alerts, topic: alerts/hot}}
destinations:
  cloud: {type: memory, from: [events], start: oldest, batch: {linger: 1ms}}
`

func lettersIn(t *testing.T, g *Gateway, q ops.LetterQuery) (all []ops.Letter) {
	t.Helper()
	if err := g.Letters(t.Context(), q, func(l ops.Letter) error { all = append(all, l); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDeadLettersAreListedTriedAgainAndPurged(t *testing.T) {
	dir := t.TempDir()
	sink, refuse := picky()
	g, stop := run(t, dir, refusing, sink)
	sensor := client(t, g, "sensor")
	for i := range 20 {
		payload := fmt.Sprintf(`{"temperature":%d}`, i)
		if i%5 == 4 {
			payload = fmt.Sprintf(`{"temperature":%d,"bad":1}`, i)
		}
		wait(t, sensor.Publish(fmt.Sprintf("plant/%d/temp", i%2), 1, false, payload))
	}
	wait(t, sensor.Publish("plant/1/temp", 1, false, "nonsense"))
	wait(t, sensor.Publish("plant/1/temp", 1, false, `{"humidity":1}`))
	until(t, "everything is settled", func() bool { d := destinationStatus(t, g, "cloud", "events"); return d.Ledger.Pending == 0 })
	until(t, "there are six letters", func() bool { return g.Status().Dead.Open == 6 })
	for _, tt := range []struct {
		q    ops.LetterQuery
		want int
	}{
		{ops.LetterQuery{}, 6},
		{ops.LetterQuery{Limit: 2}, 2},
		{ops.LetterQuery{Destination: "cloud"}, 4},
		{ops.LetterQuery{Reason: "refused"}, 4},
		{ops.LetterQuery{Reason: "undecodable"}, 1},
		{ops.LetterQuery{Reason: "rule_failed", Rule: "hot"}, 1},
		{ops.LetterQuery{Rule: "hot"}, 2},
		{ops.LetterQuery{Topic: "plant/0/+"}, 2},
		{ops.LetterQuery{Stream: "alerts"}, 0},
		{ops.LetterQuery{Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}, 6},
		{ops.LetterQuery{Since: time.Now().Add(time.Hour)}, 0},
		{ops.LetterQuery{Until: time.Now().Add(-time.Hour)}, 0},
	} {
		if got := lettersIn(t, g, tt.q); len(got) != tt.want {
			t.Errorf("%+v selects %d letters, want %d: %+v", tt.q, len(got), tt.want, got)
		}
	}
	l := lettersIn(t, g, ops.LetterQuery{Destination: "cloud", Limit: 1})[0]
	if l.Stream != "events" || l.Offset != 5 || l.Error != "422: it is bad" || l.Attempts < 1 || l.Topic != "plant/0/temp" || l.First.After(l.Last) || l.Client != "sensor" {
		t.Errorf("the first letter is %+v", l)
	}
	if f, err := ops.Item(l.Event).Fields(); err != nil || !strings.HasSuffix(f.ID, "/events/5") || string(f.Data) != `{"temperature":4,"bad":1}` || f.Source != "mqtt/sensor" && f.Source != "mqtt" {
		t.Errorf("its event is %s, %v", l.Event, err)
	}

	// Tried too early, they are dead again; the old letters are settled.
	r, err := g.RetryLetters(t.Context(), ops.LetterQuery{ID: l.ID})
	if err != nil || r.Settled != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	until(t, "it is refused again", func() bool {
		d := destinationStatus(t, g, "cloud", "events")
		return d.Ledger.Dead == 4 && d.Retrying == 0 && g.Status().Dead.Open == 6
	})
	if err := g.Letters(t.Context(), ops.LetterQuery{ID: l.ID}, nil); err == nil {
		t.Error("a settled letter is shown")
	}

	// Tried again over a restart, once the destination takes them.
	refuse.Store(false)
	sink.mu.Lock()
	fail := sink.fail
	sink.fail = func(forward.Batch) error { return errors.New("away") }
	sink.mu.Unlock()
	r, err = g.RetryLetters(t.Context(), ops.LetterQuery{})
	if err != nil || r.Selected != 6 || r.Settled != 4 || r.Skipped != 2 || !strings.Contains(r.Why, "rule hot failed") {
		t.Fatalf("%+v, %v", r, err)
	}
	if d := destinationStatus(t, g, "cloud", "events"); d.Ledger.Pending != 4 || d.Retrying != 4 || d.Ledger.Dead != 0 {
		t.Errorf("while they are tried: %+v", d)
	}
	stop()
	sink.mu.Lock()
	sink.fail = fail
	sink.mu.Unlock()
	g, stop = run(t, dir, refusing, sink)
	defer stop()
	until(t, "all are delivered", func() bool { return destinationStatus(t, g, "cloud", "events").Ledger.Delivered == 22 })
	seen := map[uint64]int{}
	for _, e := range sink.await(t, "events", 22) {
		seen[e.Offset]++
	}
	if len(seen) != 22 || seen[5] != 1 {
		t.Errorf("delivered were %v", seen)
	}

	// What is left is purged, and counted.
	r, err = g.PurgeLetters(t.Context(), ops.LetterQuery{Rule: "hot"})
	if err != nil || r.Settled != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if got := g.Status().Dead; got != (ops.DeadStatus{Retried: 5, Purged: 2}) {
		t.Errorf("the letters: %+v", got)
	}
	v := verified(t, g)
	if n := v.Differences(); n > 0 || v.Error != "" {
		t.Errorf("the recount found %+v", v)
	}
}

// verified recounts the ledger to the end.
func verified(t *testing.T, g *Gateway) ops.Verification {
	t.Helper()
	if err := g.Verify(); err != nil {
		t.Fatal(err)
	}
	until(t, "the recount is finished", func() bool { v, ok := g.Verification(); return ok && !v.Running() })
	v, _ := g.Verification()
	if v.Done != v.Total {
		t.Errorf("%d of %d were recounted", v.Done, v.Total)
	}
	return v
}

func TestADeadLetterThatIsRefusedIsNoFurtherOne(t *testing.T) {
	sink, _ := picky()
	g, stop := run(t, t.TempDir(), `
destinations:
  cloud: {type: memory, from: [events, dead], start: oldest, batch: {linger: 1ms}}
`, sink)
	defer stop()
	sensor := client(t, g, "sensor")
	for n := range uint64(3) {
		wait(t, sensor.Publish("a", 1, false, "bad"))
		until(t, "the letter is refused, like its event", func() bool { return destinationStatus(t, g, "cloud", "dead").Ledger.Dead == n+1 })
	}
	if n := g.Status().Dead.Open; n != 3 {
		t.Errorf("there are %d letters of 3 events", n)
	}
	if v := verified(t, g); v.Differences() > 0 {
		t.Errorf("the recount found %+v", v)
	}
}

func TestARecountComparesLettersWithTheLedger(t *testing.T) {
	sink, _ := picky()
	g, stop := run(t, t.TempDir(), refusing, sink)
	defer stop()
	sensor := client(t, g, "sensor")
	for range 3 {
		wait(t, sensor.Publish("x", 1, false, "bad"))
	}
	until(t, "there are three letters", func() bool { return g.Status().Dead.Open == 3 })
	if v := verified(t, g); v.Differences() > 0 || len(v.Streams) != 3 || v.Streams[2].Events != 3 {
		t.Errorf("the recount found %+v", v)
	}
	// A letter that no ledger knows of.
	lost := g.verifier.compareLetters(g.log.Stream(streamDead), map[[2]string]uint64{{"cloud", "events"}: 4}, openLetters(g.log))
	if len(lost) != 1 || !strings.Contains(lost[0], "speaks of 3 open dead letters, and there are 4") {
		t.Errorf("the difference is %q", lost)
	}
}

func TestALetterOfADestinationThatIsGoneStaysUntilItIsBack(t *testing.T) {
	dir := t.TempDir()
	sink, refuse := picky()
	g, stop := run(t, dir, refusing, sink)
	defer stop()
	wait(t, client(t, g, "sensor").Publish("x", 1, false, "bad"))
	until(t, "there is a letter", func() bool { return g.Status().Dead.Open == 1 })
	refuse.Store(false)
	rewrite(t, dir, "  cloud:", "  other:")
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := g.RetryLetters(t.Context(), ops.LetterQuery{}); err != nil || r.Settled != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if d := destinationStatus(t, g, "cloud", "events"); d.Retrying != 1 || d.Ledger.Pending < 1 {
		t.Errorf("the destination that is gone has %+v", d)
	}
	rewrite(t, dir, "  other:", "  cloud:")
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "it is delivered when the destination is back", func() bool {
		d := destinationStatus(t, g, "cloud", "events")
		return d.Retrying == 0 && d.Ledger.Delivered == 1
	})
}
