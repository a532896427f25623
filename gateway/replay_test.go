package gateway

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/ops"
)

// reload gives a running gateway another configuration.
func reload(t *testing.T, g *Gateway, dir, text string) {
	t.Helper()
	path := filepath.Join(dir, "holdfast.yaml")
	text = "gateway: test\nstore: {path: store}\nmqtt: {listen: 127.0.0.1:0}\nhttp: {listen: off}\n" + text
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// destinationStatus returns what status says of a destination in a stream.
func destinationStatus(t *testing.T, g *Gateway, name, stream string) ops.DestinationStatus {
	t.Helper()
	for _, d := range g.Status().Destinations {
		if d.Name == name && d.Stream == stream {
			if !d.Ledger.Balanced() {
				t.Errorf("the ledger of %s in %s does not balance: %+v", name, stream, d.Ledger)
			}
			return d
		}
	}
	t.Fatalf("there is no destination %s in %s: %+v", name, stream, g.Status().Destinations)
	return ops.DestinationStatus{}
}

// until waits until a condition holds that no event announces.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longest); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func publish(t *testing.T, g *Gateway, topic string, from, to int) {
	t.Helper()
	c := client(t, g, fmt.Sprintf("sensor-%s-%d", strings.ReplaceAll(topic, "/", "-"), from))
	for i := from; i < to; i++ {
		wait(t, c.Publish(topic, 1, false, fmt.Sprint(i)))
	}
}

const oneCloud = "destinations: {cloud: {type: memory, from: [events], start: oldest, batch: {linger: 1ms}, retry: {min: 10ms, max: 20ms}}}\n"

func TestAReplayGoesOnAfterARestartBesideLiveDeliveryAndIsNotInItsLedger(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	replayed := []string{} // guarded by sink.mu
	away := false
	sink.fail = func(b forward.Batch) error {
		if !b.Replay {
			return nil
		}
		if away {
			return errors.New("the far side is away for replays")
		}
		for i := range b.Events {
			if string(b.Events[i].Payload) == "7" && b.Events[i].Topic == "plant/a" {
				if len(b.Events) == 1 {
					away = true
				}
				return forward.Permanent(errors.New("400"))
			}
			if len(replayed) >= 20 && len(replayed) < 25 {
				away = true
			}
		}
		for i := range b.Events {
			replayed = append(replayed, string(b.Events[i].Payload))
		}
		return nil
	}
	g, stop := run(t, dir, oneCloud, sink)
	publish(t, g, "plant/a", 0, 40)
	publish(t, g, "office", 0, 40)
	sink.await(t, "events", 80)
	until(t, "all is booked", func() bool { return destinationStatus(t, g, "cloud", "events").Lag == 0 })
	before := destinationStatus(t, g, "cloud", "events").Ledger

	if _, err := g.StartReplay(t.Context(), ops.ReplayQuery{Destination: "clod"}); err == nil || !strings.Contains(err.Error(), `did you mean "cloud"?`) {
		t.Errorf("a replay to nowhere: %v", err)
	}
	st, err := g.StartReplay(t.Context(), ops.ReplayQuery{Destination: "cloud", Topics: []string{"plant/#"}, Rate: 200})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the replay meets a fault", func() bool { return g.Replays()[0].State == ops.ReplayRetrying })
	stop() // in the middle

	sink.mu.Lock()
	away = false
	sink.events = map[string][]event.Event{}
	sink.mu.Unlock()
	g, stop = run(t, dir, oneCloud, sink)
	defer stop()
	publish(t, g, "live", 0, 10)
	until(t, "live delivery goes on", func() bool { return destinationStatus(t, g, "cloud", "events").Ledger.Delivered == before.Delivered+10 })
	until(t, "the replay ends", func() bool {
		sink.mu.Lock()
		away = false
		sink.mu.Unlock()
		return g.Replays()[0].State == ops.ReplayDone
	})
	done := g.Replays()[0]
	if done.ID != st.ID || done.Sent != 39 || done.Refused != 1 || done.Filtered != 40 || done.Pending != 0 {
		t.Errorf("the replay ended as %+v", done)
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	slices.Sort(replayed)
	replayed = slices.Compact(replayed)
	if len(replayed) != 39 {
		t.Errorf("%d different events were sent again, want 39: %v", len(replayed), replayed)
	}
	after := destinationStatus(t, g, "cloud", "events").Ledger
	if after.Dead != before.Dead || after.Delivered != before.Delivered+10 {
		t.Errorf("the replay moved the ledger from %+v to %+v", before, after)
	}
}

func TestACancelledReplaySendsNothingMore(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	replayed := 0
	sink.fail = func(b forward.Batch) error { // guarded by sink.mu
		if b.Replay {
			replayed += len(b.Events)
		}
		return nil
	}
	g, stop := run(t, dir, oneCloud, sink)
	defer stop()
	publish(t, g, "plant/a", 0, 50)
	sink.await(t, "events", 50)
	st, err := g.StartReplay(t.Context(), ops.ReplayQuery{Destination: "cloud", Rate: 1})
	if err != nil {
		t.Fatal(err)
	}
	sink.await(t, "events", 51)
	if err := g.CancelReplay(t.Context(), st.ID); err != nil {
		t.Fatal(err)
	}
	sink.mu.Lock()
	cancelled := replayed
	sink.mu.Unlock()
	if err := g.CancelReplay(t.Context(), st.ID); err == nil {
		t.Error("the replay could be cancelled twice")
	}
	if left := g.Replays(); len(left) != 0 {
		t.Errorf("the list has %+v", left)
	}
	publish(t, g, "live", 0, 5)
	until(t, "live delivery goes on", func() bool { return destinationStatus(t, g, "cloud", "events").Ledger.Delivered == 55 })
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if cancelled == 50 {
		t.Error("the replay was over before it was cancelled: this shows nothing")
	}
	if n := len(sink.events["events"]); replayed != cancelled || n != 55+replayed {
		t.Errorf("%d events were sent, %d of them by the replay; want 55 and the %d from before it was cancelled", n, replayed, cancelled)
	}
}

func TestARenamedDestinationKeepsItsPlaceUntilItIsForgotten(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	sink.fail = func(forward.Batch) error { return errors.New("away") }
	g, stop := run(t, dir, oneCloud, sink)
	publish(t, g, "plant/a", 0, 20)
	renamed := strings.Replace(oneCloud, "cloud:", "clod:", 1)
	reload(t, g, dir, renamed)
	if d := destinationStatus(t, g, "cloud", "events"); d.Kind != ops.KindRemoved || d.Lag != 20 {
		t.Errorf("the renamed destination is %+v", d)
	}
	if st := g.Status(); st.State != ops.Degraded || !strings.Contains(strings.Join(st.Reasons, "\n"), "holdfast destination forget cloud") {
		t.Errorf("nobody is told: %v %v", st.State, st.Reasons)
	}
	if err := g.ForgetDestination(t.Context(), "clod"); err == nil {
		t.Error("a destination that is configured was forgotten")
	}
	sink.mu.Lock()
	sink.fail = nil
	sink.mu.Unlock()
	reload(t, g, dir, oneCloud) // the slip is mended
	if got := sink.await(t, "events", 20); string(got[0].Payload) != "0" {
		t.Errorf("it went on with %s", got[0].Payload)
	}
	if err := g.ForgetDestination(t.Context(), "clod"); err != nil {
		t.Error(err)
	}
	if err := g.ForgetDestination(t.Context(), "clod"); err == nil {
		t.Error("it could be forgotten twice")
	}
	stop()
	g, stop = run(t, dir, oneCloud, sink)
	defer stop()
	if st := g.Status(); len(st.Destinations) != 1 {
		t.Errorf("after a restart there are %+v", st.Destinations)
	}
}

func TestANewDestinationBeginsAtATimeAndCountsWhatItSkips(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	g, stop := run(t, dir, "", sink)
	defer stop()
	publish(t, g, "plant/a", 0, 10)
	at := g.log.Now().Std()
	publish(t, g, "plant/b", 10, 15)
	reload(t, g, dir, "destinations: {cloud: {type: memory, from: [events], start: "+at.Format(time.RFC3339Nano)+", batch: {linger: 1ms}}}\n")
	if got := sink.await(t, "events", 5); string(got[0].Payload) != "10" {
		t.Errorf("it began with %s", got[0].Payload)
	}
	until(t, "all is booked", func() bool { return destinationStatus(t, g, "cloud", "events").Lag == 0 })
	if l := destinationStatus(t, g, "cloud", "events").Ledger; l.SkippedAtStart != 10 || l.Delivered != 5 {
		t.Errorf("ledger %+v", l)
	}
}

func TestDestinationsThatAreRenamedWhileBatchesAreUnderWayBookExactly(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	n := 0
	sink.fail = func(forward.Batch) error { // guarded by sink.mu
		if n++; n%3 == 0 {
			return errors.New("503")
		}
		time.Sleep(time.Millisecond)
		return nil
	}
	names := []string{"cloud", "other"}
	text := func(i int) string {
		return strings.Replace(strings.Replace(oneCloud, "cloud:", names[i%2]+":", 1), "batch: {", "batch: {events: 5, ", 1)
	}
	g, stop := run(t, dir, text(0), sink)
	defer stop()
	const events = 320
	go func() {
		c := client(t, g, "sensor")
		for i := range events {
			wait(t, c.Publish(fmt.Sprintf("plant/%d", i%7), 1, false, fmt.Sprint(i)))
		}
	}()
	for i := 1; i <= 12; i++ {
		sink.await(t, "events", i*events/16) // under way
		reload(t, g, dir, text(i))
	}
	for i := range 2 {
		reload(t, g, dir, text(i))
		until(t, "all is delivered", func() bool {
			l := destinationStatus(t, g, names[i], "events").Ledger
			return l.Appended == events && l.Delivered == events
		})
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	seen := map[uint64]int{}
	for _, e := range sink.events["events"] {
		seen[e.Offset]++
	}
	for o := uint64(1); o <= events; o++ {
		if seen[o] < 2 {
			t.Errorf("event %d arrived %d times at two destinations", o, seen[o])
		}
	}
}

// hash sums up names, sizes, times and content of all files below dir.
func hash(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all[path] = fmt.Sprintf("%x %v", sha256.Sum256(b), info.ModTime())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAStartWithABrokenConfigurationTouchesNothing(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	sink.fail = func(forward.Batch) error { return errors.New("away") }
	g, stop := run(t, dir, oneCloud, sink)
	publish(t, g, "plant/a", 0, 20)
	stop()
	before := hash(t, filepath.Join(dir, "store"))
	head := "gateway: test\nstore: {path: store}\nhttp: {listen: off}\n"
	for name, text := range map[string]string{
		"no YAML":           head + "destinations: {cloud: {type: memory\n",
		"an unknown key":    head + "mqtt: {listen: 127.0.0.1:0}\nstream: {}\n" + oneCloud,
		"an unknown kind":   head + "mqtt: {listen: 127.0.0.1:0}\ndestinations: {cloud: {type: memori}}\n",
		"an expression":     head + "mqtt: {listen: 127.0.0.1:0}\nrules: [{name: x, from: a, where: '1 +', emit: {stream: alerts, topic: t}}]\n",
		"no file of users":  head + "mqtt: {listen: 127.0.0.1:0, users: nobody.txt}\n" + oneCloud,
		"users unreadable":  head + "mqtt: {listen: 127.0.0.1:0, users: broken.txt}\n" + oneCloud,
		"no certificate":    head + "mqtt: {listen: [{address: 127.0.0.1:0, tls: {cert: no.pem, key: no.key}}]}\n" + oneCloud,
		"everything is new": head + "mqtt: {listen: 127.0.0.1:0}\nstreams: {events: {max: 4MiB}, x: {}}\ndestinations: {d: {type: memory, from: [y]}}\n",
	} {
		path := filepath.Join(dir, "holdfast.yaml")
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "broken.txt"), []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
		cfg, err := Load([]string{path}, Parts{Sinks: []forward.Kind{sink.kind()}})
		if err == nil {
			_, err = New(cfg, Options{Logger: slog.New(slog.DiscardHandler)})
		}
		if err == nil {
			t.Fatalf("%s: the gateway was made", name)
		}
		if diff := cmp.Diff(before, hash(t, filepath.Join(dir, "store"))); diff != "" {
			t.Errorf("%s: the store has changed\n%s", name, diff)
		}
	}
	sink = newMemory()
	g, stop = run(t, dir, oneCloud, sink)
	defer stop()
	sink.await(t, "events", 20)
	_ = g
}
