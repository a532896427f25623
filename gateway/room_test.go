package gateway

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/storage"
)

func TestTheLogSaysWhenRoomRunsOutAndWhenThereIsSomeAgain(t *testing.T) {
	var text bytes.Buffer
	plain := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	w := &roomWatch{log: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: plain})), short: map[string]shortage{}}
	refuses := func(reason string) map[string]shortage {
		return map[string]shortage{"stream events": {does: "refuses", reason: reason}}
	}
	now := time.Unix(1000, 0)
	for _, step := range []struct {
		after time.Duration
		found map[string]shortage
		want  string
	}{
		{0, nil, ""},
		{0, refuses("full, 3 so far"), `level=WARN msg="full, 3 so far"`},
		{time.Second, refuses("full, 9 so far"), ""}, // no news
		{time.Second, nil, ""},
		{time.Second, refuses("full, 12 so far"), ""}, // it came and went
		{time.Second, map[string]shortage{"stream events": {does: "drops", reason: "drops, 1 so far"}}, `level=WARN msg="drops, 1 so far"`},
		{recent - time.Second, nil, ""},
		{time.Second, nil, `level=INFO msg="stream events has room again"`},
		{recent, nil, ""},
		{0, refuses("full, 20 so far"), `level=WARN msg="full, 20 so far"`},
	} {
		now = now.Add(step.after)
		w.tell(step.found, now)
		if got := strings.TrimSpace(text.String()); got != step.want {
			t.Errorf("at %v: %q, want %q", now.Unix(), got, step.want)
		}
		text.Reset()
	}
}

func TestAFullStreamIsAShortage(t *testing.T) {
	g, stop := run(t, t.TempDir(), `
streams: {events: {max: 4MiB, keep: 0s, when_full: reject}}
destinations: {cloud: {type: memory, from: [events], start: oldest}}
`, away())
	defer stop()
	if got := g.shortages(); len(got) > 0 {
		t.Errorf("shortages of an empty gateway: %v", got)
	}
	fillUp(t, g, "events")
	if got := g.shortages()["stream events"].reason; !strings.Contains(got, "stream events is full and refuses sources") {
		t.Errorf("the reason is %q", got)
	}
}

func TestDropsOfRulesInAStreamThatBlocksAreCountedAsDrops(t *testing.T) {
	does, count := whenFull(&storage.StreamStatus{Policy: storage.Block, Dropped: 7, DroppedAt: time.Now(), Waiting: 2})
	if does != "drops its oldest events" || count != "7 so far" {
		t.Errorf("it %s, %s", does, count)
	}
}
