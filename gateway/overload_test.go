package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"holdfast/gateway/broker"
	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/ops"
	"holdfast/storage"
)

// away is a destination that is down for good.
func away() *memory {
	sink := newMemory()
	sink.fail = func(forward.Batch) error { return errors.New("the cloud is away") }
	return sink
}

// fillUp appends noise to the stream as a source does, until it is full.
func fillUp(t *testing.T, g *Gateway, stream string) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{7})
	s := g.log.Stream(stream)
	for range 1000 {
		if s.Status().Full {
			return
		}
		p := make([]byte, 60<<10)
		_, _ = random.Read(p)
		done := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // of a stream that blocks
		err := g.log.Append(ctx, []storage.Append{{Stream: s, Events: []event.Event{{Topic: "noise", Payload: p}}}},
			storage.AppendOptions{Hurry: true}, func(err error) { done <- err })
		if err == nil {
			err = <-done
		}
		cancel()
		if err != nil && !errors.Is(err, storage.ErrStreamFull) && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	t.Fatalf("stream %s is never full: %+v", stream, s.Status())
}

func reasonsOf(g *Gateway) string { return strings.Join(g.Status().Reasons, "\n") }

func TestAFullStreamRefusesOnlyWhatIsForItself(t *testing.T) {
	g, stop := run(t, t.TempDir(), `
streams: {full: {topics: ['full/#'], max: 4MiB, keep: 0s, when_full: reject}}
destinations: {cloud: {type: memory, from: [full], start: oldest}}
`, away())
	defer stop()
	fillUp(t, g, "full")
	in := newIntake(g.intake, g.log, g.config.Load().Streams)
	emit := func(hold []uint16, events ...event.Event) error {
		t.Helper()
		done := make(chan error, 1)
		if err := in.emit(broker.Batch{Client: "c", Events: events, Hold: hold}, func(err error) { done <- err }); err != nil {
			return err
		}
		return <-done
	}
	var partial *broker.PartialError
	err := emit([]uint16{5, 6, 7},
		event.Event{Topic: "full/1", QoS: 1}, event.Event{Topic: "free", QoS: 2}, event.Event{Topic: "full/2", QoS: 2},
		event.Event{Topic: "free", QoS: 0}, event.Event{Topic: "free", QoS: 2})
	if !errors.As(err, &partial) || !errors.Is(err, broker.ErrRefused) || fmt.Sprint(partial.Refused) != "[0 2]" {
		t.Fatalf("a batch for two streams got %v", err)
	}
	if _, next, _ := g.log.Stream("events").Bounds(); next != 4 {
		t.Errorf("the other stream has %d events, want 3", next-1)
	}
	if err := emit(nil, event.Event{Topic: "full/1"}); !errors.Is(err, broker.ErrRefused) || errors.As(err, &partial) {
		t.Errorf("a batch for the full stream alone got %v", err)
	}
	if err := emit(nil, event.Event{Topic: "free"}); err != nil {
		t.Errorf("a batch for the other stream got %v", err)
	}
	if got := reasonsOf(g); !strings.Contains(got, "stream full is full and refuses sources") || !strings.Contains(got, "destination cloud is") {
		t.Errorf("the reasons are %s", got)
	}
	stop()
	l, err := storage.Open(storage.Options{Dir: g.config.Load().Store.Path, Gateway: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if held := fmt.Sprint(l.Held("c")); held != "[5 7]" {
		t.Errorf("held are %v, want those that were taken: [5 7]", held)
	}
}

// No cycle of back-pressure: rules that write into streams which are full,
// their own source among what is full, go on and are heard.
func TestRulesGoOnWhileTheStreamsThatTheyWriteToAreFull(t *testing.T) {
	for _, policy := range []string{"block", "reject"} {
		t.Run(policy, func(t *testing.T) {
			g, stop := run(t, t.TempDir(), strings.ReplaceAll(`
streams:
  first: {topics: ['first/#'], max: 4MiB, keep: 0s, when_full: POLICY}
  second: {topics: ['second/#'], max: 4MiB, keep: 0s, when_full: POLICY}
rules:
  - {name: a, from: plant/#, emit: {stream: first, topic: first/x}}
  - {name: b, from: {stream: first, topics: ['first/#']}, emit: {stream: second, topic: second/x}}
  - {name: c, from: {stream: second, topics: ['second/#']}, emit: {stream: alerts, topic: alerts/x}}
destinations: {cloud: {type: memory, from: [first, second], start: oldest}}
`, "POLICY", policy), away())
			fillUp(t, g, "first")
			fillUp(t, g, "second")
			before := g.log.Stream("alerts").Status().Next
			sensor := client(t, g, "sensor")
			for i := range 50 {
				wait(t, sensor.Publish("plant/1", 1, false, fmt.Sprint(i)))
			}
			until(t, "what the rules made has gone through both streams", func() bool { return g.log.Stream("alerts").Status().Next == before+50 })
			for _, s := range []string{"first", "second"} {
				if st := g.log.Stream(s).Status(); !st.Full || st.Dropped != 0 {
					t.Errorf("stream %s is %+v", s, st)
				}
			}
			stop()
		})
	}
}

func TestSourcesThatWaitForRoomDoNotHoldUpAStop(t *testing.T) {
	g, stop := run(t, t.TempDir(), `
shutdown_timeout: 10m
streams: {events: {max: 4MiB, keep: 0s, when_full: block}}
devices: {weather: {driver: bme280, bus: "sim:roof", address: 0x76, interval: 20ms}}
destinations: {cloud: {type: memory, from: [events], start: oldest}}
`, away())
	fillUp(t, g, "events")
	token := client(t, g, "sensor").Publish("plant/1", 1, false, "x")
	until(t, "the client and the device wait", func() bool { return g.log.Stream("events").Status().Waiting >= 2 })
	if got := reasonsOf(g); !strings.Contains(got, "stream events is full and makes sources wait") {
		t.Errorf("the reasons are %s", got)
	}
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > longest {
		t.Errorf("the stop took %v", took)
	}
	if token.WaitTimeout(time.Second) && token.Error() == nil {
		t.Error("what had no room was acknowledged")
	}
}

func TestADeviceThatWaitsForRoomDoesNotHoldUpAReload(t *testing.T) {
	dir := t.TempDir()
	text := `
streams: {events: {max: 4MiB, keep: 0s, when_full: block}}
devices: {weather: {driver: bme280, bus: "sim:roof", address: 0x76, interval: 20ms}}
destinations: {cloud: {type: memory, from: [events], start: oldest}}
`
	g, stop := run(t, dir, text, away())
	defer stop()
	fillUp(t, g, "events")
	until(t, "the device waits", func() bool { return g.log.Stream("events").Status().Waiting >= 1 })
	rewrite(t, dir, "interval: 20ms", "interval: 30ms")
	done := make(chan error, 1)
	go func() { done <- g.Reload(t.Context()) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(longest):
		t.Fatal("the reload waits for a device that waits for room")
	}
}

func TestAClientThatIsReplacedWaitsNoLonger(t *testing.T) {
	g, stop := run(t, t.TempDir(), `
streams: {events: {max: 4MiB, keep: 0s, when_full: block}}
destinations: {cloud: {type: memory, from: [events], start: oldest}}
`, away())
	defer stop()
	fillUp(t, g, "events")
	for range 3 {
		client(t, g, "sensor").Publish("plant/1", 1, false, "x") // each takes the place of the one before
		until(t, "only the newest waits", func() bool { return g.log.Stream("events").Status().Waiting == 1 })
	}
}

func TestFullnessIsToldFromTheWatermarkOn(t *testing.T) {
	behind := func(bytes, pending uint64) map[string]storage.CursorStatus {
		return map[string]storage.CursorStatus{
			"cloud": {Name: "cloud", Attached: true, Bytes: bytes, Pending: pending},
			"gone":  {Name: "gone", Bytes: 100 << 20, Pending: 1000},
		}
	}
	now := time.Now()
	for name, tt := range map[string]struct {
		s       storage.StreamStatus
		cursors map[string]storage.CursorStatus
		want    string
	}{
		"little waits":      {storage.StreamStatus{Max: 100 << 20}, behind(79<<20, 10), ""},
		"much waits":        {storage.StreamStatus{Max: 100 << 20}, behind(80<<20, 10), "stream s is 80 % full, then the oldest are dropped; destination cloud is 10 events (80 MiB) behind"},
		"and would block":   {storage.StreamStatus{Max: 100 << 20, Policy: storage.Block}, behind(81<<20, 10), "stream s is 81 % full, then sources wait; destination cloud is 10 events (81 MiB) behind"},
		"many wait":         {storage.StreamStatus{Max: 100 << 20, MaxEvents: 100, Policy: storage.Reject}, behind(1<<20, 90), "stream s is 90 % full, then sources are refused; destination cloud is 90 events (1 MiB) behind"},
		"nobody waits":      {storage.StreamStatus{Max: 100 << 20, Bytes: 100 << 20}, behind(0, 0), ""},
		"dropped":           {storage.StreamStatus{Max: 100 << 20, Dropped: 7, DroppedAt: now}, behind(99<<20, 10), "stream s is full and drops its oldest events, 7 so far; destination cloud is 10 events (99 MiB) behind"},
		"dropped long ago":  {storage.StreamStatus{Max: 100 << 20, Dropped: 7, DroppedAt: now.Add(-time.Hour)}, behind(0, 0), ""},
		"refuses":           {storage.StreamStatus{Max: 100 << 20, Policy: storage.Reject, Full: true, Refused: 3}, behind(100<<20, 10), "stream s is full and refuses sources, 3 events so far; destination cloud is 10 events (100 MiB) behind"},
		"refused just now":  {storage.StreamStatus{Max: 100 << 20, Policy: storage.Reject, RefusedAt: now, Refused: 3}, behind(0, 0), "stream s is full and refuses sources, 3 events so far"},
		"blocks":            {storage.StreamStatus{Max: 100 << 20, Policy: storage.Block, Full: true, Waiting: 2}, behind(100<<20, 10), "stream s is full and makes sources wait, 2 now; destination cloud is 10 events (100 MiB) behind"},
		"only history left": {storage.StreamStatus{Max: 100 << 20, Policy: storage.Block}, nil, ""},
	} {
		tt.s.Name = "s"
		if got := fullness(&tt.s, tt.cursors); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestTheStatusTellsWhatAFullStreamDoes(t *testing.T) {
	g, stop := run(t, t.TempDir(), `
streams: {events: {max: 4MiB, keep: 0s, max_events: 1000, when_full: reject}}
destinations: {cloud: {type: memory, from: [events], start: oldest}}
`, away())
	defer stop()
	fillUp(t, g, "events")
	var st ops.StreamStatus
	for _, s := range g.Status().Streams {
		if s.Name == "events" {
			st = s
		}
	}
	if !st.Full || st.WhenFull != "reject" || st.MaxEvents != 1000 || st.Dropped != 0 || st.Removed != 0 {
		t.Errorf("status %+v", st)
	}
	for _, d := range g.Status().Destinations {
		if d.Stream == "events" && (d.LagBytes < 3<<20 || !d.Ledger.Balanced()) {
			t.Errorf("destination %+v", d)
		}
	}
}
