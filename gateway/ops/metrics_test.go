package ops

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func fullStatus() Status {
	at := time.Unix(1_700_000_000, 0).UTC()
	return Status{
		Version: "v1.2.3", Gateway: "pi", Epoch: "00000000000000ab", Started: at, Uptime: Seconds(90 * time.Second),
		State: Degraded, Reasons: []string{"destination cloud: 401"}, HTTP: "127.0.0.1:8480", Control: "/run/holdfast/holdfast.sock",
		Store: StoreStatus{Path: "/data", Bytes: 1 << 30, Free: 2 << 30, Commits: 10,
			Latency: Latency{Sum: Seconds(5 * time.Millisecond), P50: Seconds(400 * time.Microsecond), P99: Seconds(2 * time.Millisecond)}},
		Streams: []StreamStatus{
			{Name: "events", First: 3, Next: 103, Bytes: 4096, Max: 1 << 28, Keep: new(Seconds(24 * time.Hour)), Appended: 102, Dropped: 2},
			{Name: "alerts", First: 1, Next: 1},
		},
		Destinations: []DestinationStatus{
			{Name: "cloud", Kind: "http", Stream: "events", State: Retrying, Offset: 60, Lag: 42, Oldest: Seconds(time.Minute),
				LastError: "401", Attempts: 3, NextAttempt: at.Add(time.Second), LastSuccess: at,
				Ledger: Ledger{Appended: 102, Delivered: 50, Dropped: 2, Dead: 1, Filtered: 7, Pending: 42}},
			{Name: "cloud", Kind: "http", Stream: "alerts", State: Idle},
		},
		Rules: []RuleStatus{{Name: "hot", Stream: "events", Matched: 100, Passed: 4, Failed: 1, Late: 2, Processor: ProcessorStatus{Offset: 102}}},
		Replays: []ReplayStatus{
			{ID: 1, Stream: "events", Destination: "cloud", State: ReplayRunning, Pending: 3},
			{ID: 2, Stream: "events", Destination: "cloud", State: ReplayWaiting, Pending: 4},
		},
		MQTT: MQTTStatus{Listen: []string{"127.0.0.1:1883"}, Clients: 2, Received: 102, Sent: 5, Violations: 1, Reasons: map[string]uint64{"malformed_packet": 1, "topic_name_invalid": 0}, Refused: 3},
	}
}

func fullDevices() []DeviceStatus {
	return []DeviceStatus{
		{Name: "attic", Driver: "bme280", Bus: "1", State: "online", Sampled: 12, Captured: 10, Suppressed: 2, OutOfRange: 1},
		{Name: "cellar", Driver: "bme280", Bus: "1", State: "offline", Sampled: 3, Captured: 1, Missed: 2, Failures: 4, Overruns: 5},
		{Name: "door", Driver: "input", Bus: "gpiochip0", State: "online", Sampled: 7, Captured: 7, Lost: 6},
	}
}

// A plant may have thousands of devices: their names are no labels.
func TestDevicesAreSummedUpByDriverAndBus(t *testing.T) {
	err := testutil.GatherAndCompare(newRegistry(&fake{status: fullStatus()}, fullDevices), strings.NewReader(`
# HELP holdfast_device_captured_total Events of readings that are on disk.
# TYPE holdfast_device_captured_total counter
holdfast_device_captured_total{bus="1",driver="bme280"} 11
holdfast_device_captured_total{bus="gpiochip0",driver="input"} 7
# HELP holdfast_device_failures_total Times that a device failed.
# TYPE holdfast_device_failures_total counter
holdfast_device_failures_total{bus="1",driver="bme280"} 4
holdfast_device_failures_total{bus="gpiochip0",driver="input"} 0
# HELP holdfast_device_lost_edges_total Edges of inputs that nobody took in time.
# TYPE holdfast_device_lost_edges_total counter
holdfast_device_lost_edges_total{bus="1",driver="bme280"} 0
holdfast_device_lost_edges_total{bus="gpiochip0",driver="input"} 6
# HELP holdfast_devices Devices that are configured.
# TYPE holdfast_devices gauge
holdfast_devices{bus="1",driver="bme280"} 2
holdfast_devices{bus="gpiochip0",driver="input"} 1
# HELP holdfast_devices_online Devices that answer.
# TYPE holdfast_devices_online gauge
holdfast_devices_online{bus="1",driver="bme280"} 1
holdfast_devices_online{bus="gpiochip0",driver="input"} 1
`), "holdfast_devices", "holdfast_devices_online", "holdfast_device_captured_total", "holdfast_device_failures_total", "holdfast_device_lost_edges_total")
	if err != nil {
		t.Error(err)
	}
}

func TestMetricsFollowTheConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(newRegistry(&fake{status: fullStatus()}, fullDevices))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "holdfast_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestReplaysToOneDestinationAreSummedUp(t *testing.T) {
	err := testutil.GatherAndCompare(newRegistry(&fake{status: fullStatus()}, fullDevices), strings.NewReader(`
# HELP holdfast_replay_pending_events Events that replays have yet to settle.
# TYPE holdfast_replay_pending_events gauge
holdfast_replay_pending_events{destination="cloud",stream="events"} 7
# HELP holdfast_replays Replays that are not over.
# TYPE holdfast_replays gauge
holdfast_replays{destination="cloud",stream="events"} 2
`), "holdfast_replays", "holdfast_replay_pending_events")
	if err != nil {
		t.Error(err)
	}
}

// A label of unbounded values would take down the monitoring of a whole site.
func TestMetricsHaveOnlyBoundedLabels(t *testing.T) {
	families, err := newRegistry(&fake{status: fullStatus()}, fullDevices).Gather()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"rule", "destination", "source", "stream", "reason", "driver", "bus"}
	seen := 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "holdfast_") || f.GetName() == "holdfast_build_info" {
			continue
		}
		seen++
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(allowed, l.GetName()) {
					t.Errorf("%s has the label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d families", seen)
	}
}

func TestMetricsShowTheStatus(t *testing.T) {
	_, url, _ := start(t, &fake{status: fullStatus()})
	_, body := get(t, url+"/metrics")
	lines := strings.Split(body, "\n")
	for _, want := range []string{
		`holdfast_ready 1`,
		`holdfast_degraded 1`,
		`holdfast_start_time_seconds 1.7e+09`,
		`holdfast_store_commit_seconds{quantile="0.99"} 0.002`,
		`holdfast_store_commit_seconds_count 10`,
		`holdfast_mqtt_refused_total 3`,
		`holdfast_mqtt_violations_total{reason="malformed_packet"} 1`,
		`holdfast_mqtt_violations_total{reason="topic_name_invalid"} 0`,
		`holdfast_stream_appended_total{stream="events"} 102`,
		`holdfast_destination_up{destination="cloud",stream="events"} 0`,
		`holdfast_destination_up{destination="cloud",stream="alerts"} 1`,
		`holdfast_destination_delivered_total{destination="cloud",stream="events"} 50`,
		`holdfast_destination_oldest_seconds{destination="cloud",stream="events"} 60`,
		`holdfast_rule_late_total{rule="hot",stream="events"} 2`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("/metrics has no line %s", want)
		}
	}
	for _, want := range []string{`holdfast_build_info{goversion="go`, "go_goroutines ", "process_open_fds "} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("/metrics has no line that begins with %s", want)
		}
	}
}

func TestLedgerOfTheExampleBalances(t *testing.T) {
	l := fullStatus().Destinations[0].Ledger
	if !l.Balanced() {
		t.Error("a balanced ledger is called unbalanced")
	}
	l.Pending++
	if l.Balanced() {
		t.Error("an unbalanced ledger is called balanced")
	}
}
