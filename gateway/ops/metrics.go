package ops

import (
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newRegistry returns a registry with the metrics of g, its devices and the
// process.
func newRegistry(g Gateway, devices func() []DeviceStatus) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collector{g, devices},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// metric is one family of the table below: how the figures of T become its
// samples. Labels are those of the section that it stands in.
type metric[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(T) float64
}

func family[T any](kind prometheus.ValueType, name, help string, labels []string, value func(T) float64) metric[T] {
	return metric[T]{prometheus.NewDesc("holdfast_"+name, help, labels, nil), kind, value}
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// Labels come from the configuration only, so that their number is bounded:
// never a topic, a device or a client id.
var (
	streamLabels      = []string{"stream"}
	destinationLabels = []string{"destination", "stream"}
	ruleLabels        = []string{"rule", "stream"}
	reasonLabels      = []string{"reason"}
	deviceLabels      = []string{"driver", "bus"}
)

var buildInfo = prometheus.NewDesc("holdfast_build_info",
	"Always 1; the labels say which build this is.", []string{"version", "goversion"}, nil)

var commitSeconds = prometheus.NewDesc("holdfast_store_commit_seconds",
	"Time that commits took, from the request to the sync; quantiles over recent commits.", nil, nil)

var gatewayMetrics = []metric[Status]{
	family(gauge, "start_time_seconds", "When the gateway was started, in seconds since 1970.", nil,
		func(s Status) float64 { return unix(s.Started) }),
	family(gauge, "ready", "1 if the gateway takes events, 0 if it has failed.", nil,
		func(s Status) float64 { return flag(s.State != Failed) }),
	family(gauge, "degraded", "1 if something needs attention; /healthz says what.", nil,
		func(s Status) float64 { return flag(s.State != OK) }),

	family(gauge, "store_bytes", "Bytes that the store takes on disk.", nil,
		func(s Status) float64 { return float64(s.Store.Bytes) }),
	family(gauge, "store_free_bytes", "Bytes free on the file system of the store.", nil,
		func(s Status) float64 { return float64(s.Store.Free) }),

	family(gauge, "mqtt_clients", "MQTT clients connected.", nil,
		func(s Status) float64 { return float64(s.MQTT.Clients) }),
	family(counter, "mqtt_received_total", "Messages that MQTT clients published.", nil,
		func(s Status) float64 { return float64(s.MQTT.Received) }),
	family(counter, "mqtt_sent_total", "Messages sent to MQTT subscribers.", nil,
		func(s Status) float64 { return float64(s.MQTT.Sent) }),
	family(counter, "mqtt_refused_total", "Messages from MQTT clients that were neither taken nor acknowledged.", nil,
		func(s Status) float64 { return float64(s.MQTT.Refused) }),
	family(gauge, "mqtt_sessions", "Sessions of MQTT clients, connected or not.", nil,
		func(s Status) float64 { return float64(s.MQTT.Sessions) }),
	family(gauge, "mqtt_absent_sessions", "Sessions of MQTT clients that are away.", nil,
		func(s Status) float64 { return float64(s.MQTT.Absent) }),
	family(gauge, "mqtt_waiting_messages", "Messages in the log that wait for MQTT sessions.", nil,
		func(s Status) float64 { return float64(s.MQTT.Waiting) }),
	family(counter, "mqtt_dropped_total", "Messages that MQTT subscribers did not get: they were away too long or too slow.", nil,
		func(s Status) float64 { return float64(s.MQTT.Dropped) }),
	family(counter, "mqtt_expired_total", "Messages that expired before an MQTT subscriber could have them.", nil,
		func(s Status) float64 { return float64(s.MQTT.Expired) }),
	family(gauge, "mqtt_retained_messages", "Topics with a retained message.", nil,
		func(s Status) float64 { return float64(s.MQTT.Retained) }),
	family(counter, "mqtt_not_retained_total", "Messages that were not retained because mqtt.max_retained is reached.", nil,
		func(s Status) float64 { return float64(s.MQTT.NotRetained) }),

	family(gauge, "dead_letters", "Dead letters that are open.", nil,
		func(s Status) float64 { return float64(s.Dead.Open) }),
	family(counter, "dead_letters_retried_total", "Dead letters that were moved back to pending.", nil,
		func(s Status) float64 { return float64(s.Dead.Retried) }),
	family(counter, "dead_letters_purged_total", "Dead letters that were purged.", nil,
		func(s Status) float64 { return float64(s.Dead.Purged) }),
	family(counter, "dead_letters_lost_total", "Open dead letters that the limits of their stream took.", nil,
		func(s Status) float64 { return float64(s.Dead.Lost) }),
}

var ingestMetrics = []metric[IngestStatus]{
	family(counter, "ingest_events_total", "Events taken over HTTP that are on disk.", nil,
		func(s IngestStatus) float64 { return float64(s.Events) }),
	family(counter, "ingest_invalid_total", "HTTP requests with a mistake.", nil,
		func(s IngestStatus) float64 { return float64(s.Invalid) }),
	family(counter, "ingest_unauthorized_total", "HTTP requests without a right to send.", nil,
		func(s IngestStatus) float64 { return float64(s.Unauthorized) }),
	family(counter, "ingest_refused_total", "HTTP requests that were not taken and may be sent again.", nil,
		func(s IngestStatus) float64 { return float64(s.Refused) }),
}

var violationMetrics = []metric[uint64]{
	family(counter, "mqtt_violations_total", "Connections ended because the client broke the protocol, by the reason codes of MQTT 5.", reasonLabels,
		func(n uint64) float64 { return float64(n) }),
}

var streamMetrics = []metric[StreamStatus]{
	family(gauge, "stream_first_offset", "Offset of the oldest event kept.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.First) }),
	family(gauge, "stream_next_offset", "Offset of the next event to come.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Next) }),
	family(gauge, "stream_bytes", "Bytes that the stream takes on disk.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Bytes) }),
	family(gauge, "stream_max_bytes", "Bytes that the stream may take on disk.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Max) }),
	family(counter, "stream_appended_total", "Events appended since the store was created.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Appended) }),
	family(counter, "stream_removed_total", "Events that are not kept any more.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Removed) }),
	family(counter, "stream_dropped_total", "Events removed because the stream was full, before a destination had them.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Dropped) }),
	family(counter, "stream_expired_total", "Events removed because of their age, before a destination had them.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Expired) }),
	family(counter, "stream_refused_total", "Events of sources that the full stream refused.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Refused) }),
	family(gauge, "stream_full", "1 while sources are refused or wait because the stream is full.", streamLabels,
		func(s StreamStatus) float64 { return flag(s.Full) }),
	family(gauge, "stream_waiting_appends", "Messages and requests of sources that wait for room.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Waiting) }),
	family(counter, "stream_damaged_total", "Events that could not be read back.", streamLabels,
		func(s StreamStatus) float64 { return float64(s.Damaged) }),
}

var destinationMetrics = []metric[DestinationStatus]{
	family(gauge, "destination_up", "0 if the last attempt to deliver failed, else 1.", destinationLabels,
		func(d DestinationStatus) float64 { return flag(d.State != Retrying) }),
	family(gauge, "destination_failed_attempts", "Attempts to deliver that failed in a row.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Attempts) }),
	family(gauge, "destination_last_success_timestamp_seconds", "When the destination last accepted a batch, in seconds since 1970; 0 if never.", destinationLabels,
		func(d DestinationStatus) float64 { return unix(d.LastSuccess) }),
	family(gauge, "destination_offset", "Offset of the last event settled.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Offset) }),
	family(gauge, "destination_lag_events", "Events behind the head of the stream.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Lag) }),
	family(gauge, "destination_lag_bytes", "Bytes on disk behind the head of the stream, about.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.LagBytes) }),
	family(gauge, "destination_oldest_seconds", "Age of the oldest pending event.", destinationLabels,
		func(d DestinationStatus) float64 { return d.Oldest.Std().Seconds() }),
	family(counter, "destination_appended_total", "Events appended to the stream, the whole of the ledger.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Ledger.Appended) }),
	family(counter, "destination_delivered_total", "Events that the destination accepted.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Ledger.Delivered) }),
	family(counter, "destination_filtered_total", "Events that the destination did not select.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Ledger.Filtered) }),
	family(counter, "destination_expired_total", "Events that were removed because of their age before they were delivered.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Ledger.Expired) }),
	family(counter, "destination_dropped_total", "Events that were removed because the stream was full before they were delivered.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Ledger.Dropped) }),
	family(counter, "destination_damaged_total", "Events that could not be read back for delivery.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Ledger.Damaged) }),
	family(counter, "destination_skipped_at_start_total", "Events older than the destination.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Ledger.SkippedAtStart) }),
	// Gauges: a dead letter that is tried again is pending once more.
	family(gauge, "destination_dead_letters", "Events that the destination refused for good.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Ledger.Dead) }),
	family(gauge, "destination_retrying_events", "Of the pending events, dead letters that are tried again.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Retrying) }),
	family(gauge, "destination_pending_events", "Events yet to be settled.", destinationLabels,
		func(d DestinationStatus) float64 { return float64(d.Ledger.Pending) }),
}

// replays sums up the replays of one stream to one destination.
type replays struct {
	destination, stream string
	running             int
	pending             uint64
}

var replayMetrics = []metric[replays]{
	family(gauge, "replays", "Replays that are not over.", destinationLabels,
		func(r replays) float64 { return float64(r.running) }),
	family(gauge, "replay_pending_events", "Events that replays have yet to settle.", destinationLabels,
		func(r replays) float64 { return float64(r.pending) }),
}

func sumReplays(all []ReplayStatus) (sums []replays) {
	for _, r := range all {
		i := slices.IndexFunc(sums, func(s replays) bool { return s.destination == r.Destination && s.stream == r.Stream })
		if i < 0 {
			i, sums = len(sums), append(sums, replays{destination: r.Destination, stream: r.Stream})
		}
		sums[i].running++
		sums[i].pending += r.Pending
	}
	return sums
}

var ruleMetrics = []metric[RuleStatus]{
	family(counter, "rule_matched_total", "Events of the topics that the rule reads.", ruleLabels,
		func(r RuleStatus) float64 { return float64(r.Matched) }),
	family(counter, "rule_passed_total", "Events that passed the rule's condition.", ruleLabels,
		func(r RuleStatus) float64 { return float64(r.Passed) }),
	family(counter, "rule_failed_total", "Events on which an expression of the rule failed.", ruleLabels,
		func(r RuleStatus) float64 { return float64(r.Failed) }),
	family(counter, "rule_late_total", "Events behind the watermark that no window took.", ruleLabels,
		func(r RuleStatus) float64 { return float64(r.Late) }),
	family(counter, "rule_emitted_total", "Events that the rule wrote.", ruleLabels,
		func(r RuleStatus) float64 { return float64(r.Emitted) }),
	family(gauge, "rule_offset", "Offset of the last event whose outputs are on disk.", ruleLabels,
		func(r RuleStatus) float64 { return float64(r.Processor.Offset) }),
	family(gauge, "rule_lag_events", "Events behind the head of the stream.", ruleLabels,
		func(r RuleStatus) float64 { return float64(r.Processor.Lag) }),
}

// deviceSum sums up the devices of one kind at one bus.
type deviceSum struct {
	DeviceStatus
	devices, online int
}

var deviceMetrics = []metric[deviceSum]{
	family(gauge, "devices", "Devices that are configured.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.devices) }),
	family(gauge, "devices_online", "Devices that answer.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.online) }),
	family(counter, "device_failures_total", "Times that a device failed.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.Failures) }),
	family(counter, "device_readings_total", "Readings that devices gave.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.Sampled) }),
	family(counter, "device_suppressed_total", "Readings that had hardly changed, or went into an aggregate.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.Suppressed) }),
	family(counter, "device_captured_total", "Events of readings that are on disk.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.Captured) }),
	family(counter, "device_missed_total", "Events of readings that the log did not take in time.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.Missed) }),
	family(counter, "device_overruns_total", "Readings that were due while an earlier one still went on.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.Overruns) }),
	family(counter, "device_out_of_range_total", "Readings beyond what is physically possible.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.OutOfRange) }),
	family(counter, "device_lost_edges_total", "Edges of inputs that nobody took in time.", deviceLabels,
		func(d deviceSum) float64 { return float64(d.Lost) }),
}

func sumDevices(all []DeviceStatus) (sums []deviceSum) {
	for _, d := range all {
		i := slices.IndexFunc(sums, func(s deviceSum) bool { return s.Driver == d.Driver && s.Bus == d.Bus })
		if i < 0 {
			i, sums = len(sums), append(sums, deviceSum{DeviceStatus: DeviceStatus{Driver: d.Driver, Bus: d.Bus}})
		}
		s := &sums[i]
		s.devices++
		if d.State == "online" {
			s.online++
		}
		s.Failures += d.Failures
		s.Sampled += d.Sampled
		s.Suppressed += d.Suppressed
		s.Captured += d.Captured
		s.Missed += d.Missed
		s.Overruns += d.Overruns
		s.OutOfRange += d.OutOfRange
		s.Lost += d.Lost
	}
	return sums
}

// collector turns one Status per scrape into metrics, so that the figures of
// a scrape belong together and nothing is counted twice.
type collector struct {
	gateway Gateway
	devices func() []DeviceStatus
}

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- buildInfo
	ch <- commitSeconds
	describe(ch, gatewayMetrics)
	describe(ch, ingestMetrics)
	describe(ch, violationMetrics)
	describe(ch, streamMetrics)
	describe(ch, destinationMetrics)
	describe(ch, replayMetrics)
	describe(ch, ruleMetrics)
	describe(ch, deviceMetrics)
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	st := c.gateway.Status()
	ch <- prometheus.MustNewConstMetric(buildInfo, gauge, 1, st.Version, runtime.Version())
	ch <- prometheus.MustNewConstSummary(commitSeconds, st.Store.Commits,
		st.Store.Latency.Sum.Std().Seconds(), map[float64]float64{
			0.5:  st.Store.Latency.P50.Std().Seconds(),
			0.99: st.Store.Latency.P99.Std().Seconds(),
		})
	collect(ch, gatewayMetrics, st)
	if st.Ingest != nil {
		collect(ch, ingestMetrics, *st.Ingest)
	}
	for reason, n := range st.MQTT.Reasons {
		collect(ch, violationMetrics, n, reason)
	}
	for _, s := range st.Streams {
		collect(ch, streamMetrics, s, s.Name)
	}
	for _, d := range st.Destinations {
		collect(ch, destinationMetrics, d, d.Name, d.Stream)
	}
	for _, r := range sumReplays(st.Replays) {
		collect(ch, replayMetrics, r, r.destination, r.stream)
	}
	for _, r := range st.Rules {
		collect(ch, ruleMetrics, r, r.Name, r.Stream)
	}
	for _, d := range sumDevices(c.devices()) {
		collect(ch, deviceMetrics, d, d.Driver, d.Bus)
	}
}

func describe[T any](ch chan<- *prometheus.Desc, table []metric[T]) {
	for _, m := range table {
		ch <- m.desc
	}
}

func collect[T any](ch chan<- prometheus.Metric, table []metric[T], v T, labels ...string) {
	for _, m := range table {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(v), labels...)
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}
