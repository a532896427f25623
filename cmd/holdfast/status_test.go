package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/ops"
)

var update = flag.Bool("update", false, "write the golden files anew")

// troubled is a gateway whose cloud is away.
func troubled() ops.Status {
	at := time.Date(2025, 11, 21, 9, 0, 0, 0, time.UTC)
	return ops.Status{
		Version: "v0.1.0", Gateway: "press-4", Epoch: "5fd0c1b2a3948576", Started: at, Uptime: ops.Seconds(75 * time.Hour),
		State: ops.Degraded,
		Reasons: []string{
			"destination cloud: 401 Unauthorized for 3m; check the token",
			"stream events: 82 % full; the oldest events will be dropped",
		},
		HTTP: "127.0.0.1:8480", Control: "/run/holdfast/holdfast.sock",
		Store: ops.StoreStatus{Path: "/var/lib/holdfast", Bytes: 900 << 20, Free: 11 << 30, Commits: 1_234_567,
			Latency: ops.Latency{Sum: ops.Seconds(time.Hour), P50: ops.Seconds(310 * time.Microsecond), P99: ops.Seconds(2100 * time.Microsecond)}},
		Streams: []ops.StreamStatus{
			{Name: "events", First: 40_001, Next: 1_240_001, Bytes: 840 << 20, Max: 1 << 30, Keep: new(ops.Seconds(24 * time.Hour)), Appended: 1_240_000, Dropped: 40_000},
			{Name: "alerts", First: 1, Next: 1, Max: 64 << 20, Keep: new(ops.Seconds(7 * 24 * time.Hour))},
			{Name: "dead", First: 1, Next: 2, Bytes: 700, Max: 64 << 20, Appended: 1},
		},
		Destinations: []ops.DestinationStatus{
			{Name: "cloud", Kind: "http", Stream: "events", State: ops.Retrying, Offset: 1_200_000, Lag: 40_000, LagBytes: 28 << 20, Oldest: ops.Seconds(190 * time.Second),
				LastError: "POST https://ingest.example/v1: 401 Unauthorized", Attempts: 7,
				NextAttempt: at.Add(75*time.Hour + 12*time.Second), LastSuccess: at.Add(75*time.Hour - 190*time.Second),
				Ledger: ops.Ledger{Appended: 1_240_000, Delivered: 1_159_000, Filtered: 1000, Dropped: 39_999, Dead: 1, Pending: 40_000}},
			{Name: "archive", Kind: "file", Stream: "alerts", State: ops.Idle},
		},
		Rules: []ops.RuleStatus{{Name: "too-hot", Stream: "events", Matched: 620_000, Passed: 12, Failed: 3, Emitted: 12, Processor: ops.ProcessorStatus{Offset: 1_240_000}}},
		MQTT: ops.MQTTStatus{Listen: []string{"127.0.0.1:1883"}, Clients: 12, Received: 1_240_000, Sent: 77, Violations: 1, Refused: 5,
			Sessions: 14, Absent: 2, Waiting: 310, Dropped: 12, Ledgers: []ops.SessionStatus{
				{Client: "panel-2", User: "panel", Away: ops.Seconds(49 * time.Hour), Waiting: 300, Bytes: 64 << 10, Delivered: 90_000, Dropped: 1200},
				{Client: "$share/workers/jobs/#", Waiting: 10, Bytes: 900, Dropped: 12},
				{Client: "hmi", Connected: true, Delivered: 1500, Expired: 3},
			}},
	}
}

func TestStatusExplainsWhatNeedsAttention(t *testing.T) {
	st := troubled()
	now := sample{st, st.Started.Add(75 * time.Hour)}
	var b bytes.Buffer
	if err := writeStatus(&b, now, nil, false); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/status.golden", b.Bytes())
}

func TestWatchedStatusHasRates(t *testing.T) {
	was := troubled()
	was.MQTT.Received -= 50_000
	was.Streams[0].Appended -= 50_000
	was.Destinations[0].Ledger.Delivered -= 4
	was.Rules[0].Matched -= 25_000
	st := troubled()
	now := st.Started.Add(75 * time.Hour)
	var b bytes.Buffer
	if err := writeStatus(&b, sample{st, now}, &sample{was, now.Add(-2 * time.Second)}, false); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/status_watch.golden", b.Bytes())
}

// Counters begin again with the process: a rate across a restart would be wrong.
func TestRatesDoNotSpanARestart(t *testing.T) {
	was, st := troubled(), troubled()
	st.Started = st.Started.Add(time.Second)
	var b bytes.Buffer
	if err := writeStatus(&b, sample{st, st.Started}, &sample{was, was.Started}, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "/s)") {
		t.Errorf("rates in\n%s", &b)
	}
}

func TestStatusHasColourOnlyWhereAsked(t *testing.T) {
	for _, colour := range []bool{false, true} {
		var b bytes.Buffer
		if err := writeStatus(&b, sample{status: troubled()}, nil, colour); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(b.String(), "\x1b["); got != colour {
			t.Errorf("colour %v: escape sequences %v", colour, got)
		}
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); if it should, run with -update\n%s", file, diff)
	}
}
