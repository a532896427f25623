package ops

import (
	"math"
	"strconv"
	"time"
)

// State is the condition of the gateway as a whole.
type State string

// The states of a gateway.
const (
	// OK: it takes events and every destination accepts them.
	OK State = "ok"
	// Degraded: it takes events, but something needs attention; the reasons
	// say what. A destination that is away is one, dropped events another.
	Degraded State = "degraded"
	// Failed: it cannot keep its promise to sources, because the store
	// cannot commit or a listener is down.
	Failed State = "failed"
)

// Status is a snapshot of a gateway. Counters begin at zero with the process
// unless their comment says otherwise; the ledger is kept in the store.
type Status struct {
	Version string    `json:"version"`
	Gateway string    `json:"gateway"` // the name, first part of every event id
	Epoch   string    `json:"epoch"`   // 16 hexadecimal digits
	Started time.Time `json:"started"`
	Uptime  Seconds   `json:"uptime_seconds"`
	State   State     `json:"state"`
	// Reasons say in an operator's words why State is not ok, worst first.
	Reasons []string `json:"reasons"`

	HTTP    string `json:"http,omitempty"`    // address of health and metrics
	Control string `json:"control,omitempty"` // path of the control socket

	Store        StoreStatus         `json:"store"`
	Streams      []StreamStatus      `json:"streams"`
	Destinations []DestinationStatus `json:"destinations"`
	Rules        []RuleStatus        `json:"rules"`
	Replays      []ReplayStatus      `json:"replays"` // those that are not over
	MQTT         MQTTStatus          `json:"mqtt"`
	Ingest       *IngestStatus       `json:"ingest,omitempty"` // nil if nothing is taken over HTTP
	Dead         DeadStatus          `json:"dead"`
}

// DeadStatus accounts for every dead letter since the store was created.
type DeadStatus struct {
	Open    uint64 `json:"open"`
	Retried uint64 `json:"retried"` // and either delivered or dead again
	Purged  uint64 `json:"purged"`
	Lost    uint64 `json:"lost"` // open ones that the limits of the stream took
}

// StoreStatus describes the store and the disk under it.
type StoreStatus struct {
	Path    string  `json:"path"`
	Bytes   int64   `json:"bytes"` // taken on disk
	Free    int64   `json:"free"`  // bytes free on its file system
	Commits uint64  `json:"commits"`
	Latency Latency `json:"commit_latency"`
}

// Latency sums up how long commits took, from the request to the sync.
type Latency struct {
	Sum Seconds `json:"sum_seconds"` // of all commits since the start
	P50 Seconds `json:"p50_seconds"` // of recent commits
	P99 Seconds `json:"p99_seconds"`
}

// StreamStatus describes one stream of the log.
type StreamStatus struct {
	Name  string `json:"name"`
	First uint64 `json:"first"` // offset of the oldest event kept
	Next  uint64 `json:"next"`  // offset of the next event to come
	Bytes int64  `json:"bytes"` // taken on disk
	Max   int64  `json:"max"`   // bytes it may take
	// MaxEvents is how many events it may hold; 0 if that does not matter.
	MaxEvents uint64 `json:"max_events,omitempty"`
	WhenFull  string `json:"when_full"` // drop_oldest, block or reject
	// Keep is how long delivered events stay for replay; nil for dead letters,
	// which stay whoever has read them.
	Keep *Seconds `json:"keep_seconds,omitempty"`
	// Of all events appended since the store was created, removed are those
	// that are not kept any more. Of these, dropped and expired are those that
	// some destination had not taken, because the stream was full or they were
	// too old. Damaged are those that could not be read back.
	Appended uint64 `json:"appended"`
	Removed  uint64 `json:"removed"`
	Dropped  uint64 `json:"dropped"`
	Expired  uint64 `json:"expired"`
	Damaged  uint64 `json:"damaged"`
	// Full says that sources are refused or wait now. Refused events are
	// counted since the start; waiting are messages and requests now.
	Full    bool   `json:"full"`
	Refused uint64 `json:"refused"`
	Waiting int    `json:"waiting"`
}

// Events is the number of events that the stream holds.
func (s StreamStatus) Events() uint64 { return s.Next - min(s.First, s.Next) }

// DestinationState is what a forwarder is doing.
type DestinationState string

// The states of a destination.
const (
	Idle     DestinationState = "idle"     // everything delivered
	Sending  DestinationState = "sending"  // events are on their way
	Retrying DestinationState = "retrying" // the last attempt failed
)

// KindRemoved is the kind of a destination that is not configured any more.
const KindRemoved = "none"

// DestinationStatus describes one destination's cursor in one stream. A
// destination that takes several streams has one of these for each.
type DestinationStatus struct {
	Name   string           `json:"name"`
	Kind   string           `json:"kind"` // of its sink: http, file; KindRemoved
	Stream string           `json:"stream"`
	State  DestinationState `json:"state"`

	Offset   uint64  `json:"offset"`              // of the last event settled
	Lag      uint64  `json:"lag"`                 // events behind the head of the stream
	LagBytes int64   `json:"lag_bytes,omitempty"` // on disk, about
	Oldest   Seconds `json:"oldest_seconds"`      // age of the oldest pending event
	Retrying uint64  `json:"retrying,omitempty"`  // of the lag, dead letters that are tried again
	Purged   uint64  `json:"purged,omitempty"`    // of the dead letters, those that were purged

	LastError   string    `json:"last_error,omitempty"` // of the attempts below
	Attempts    int       `json:"attempts"`             // failed in a row
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	LastSuccess time.Time `json:"last_success,omitzero"`

	Ledger Ledger `json:"ledger"`
}

// Ledger accounts for every event that was appended to a stream for a
// destination since the destination was first configured. It balances:
// appended is the sum of all the others.
type Ledger struct {
	Appended       uint64 `json:"appended"`
	Delivered      uint64 `json:"delivered"`
	Filtered       uint64 `json:"filtered"`         // not selected by its topics
	Expired        uint64 `json:"expired"`          // older than the stream keeps
	Dropped        uint64 `json:"dropped"`          // removed before delivery because the stream was full
	Dead           uint64 `json:"dead"`             // dead letters, unless they are tried again
	Damaged        uint64 `json:"damaged"`          // unreadable in the store
	SkippedAtStart uint64 `json:"skipped_at_start"` // older than the destination
	Pending        uint64 `json:"pending"`
}

// Balanced reports whether every appended event is accounted for.
func (l Ledger) Balanced() bool {
	return l.Appended == l.Delivered+l.Filtered+l.Expired+l.Dropped+l.Dead+
		l.Damaged+l.SkippedAtStart+l.Pending
}

// RuleStatus describes one rule and the processor that runs it.
type RuleStatus struct {
	Name      string          `json:"name"`
	Stream    string          `json:"stream"` // of the log that its events come from
	Disabled  bool            `json:"disabled,omitempty"`
	Matched   uint64          `json:"matched"` // events of its topics
	Passed    uint64          `json:"passed"`  // of these, through its where
	Failed    uint64          `json:"failed"`  // of these, with an error in an expression
	Late      uint64          `json:"late"`    // behind the watermark, in no window
	Emitted   uint64          `json:"emitted"` // events that it wrote
	Processor ProcessorStatus `json:"processor"`
}

// ProcessorStatus is the position of a rule set in the stream that it reads.
type ProcessorStatus struct {
	Offset uint64 `json:"offset"` // of the last event whose outputs are on disk
	Lag    uint64 `json:"lag"`    // events behind the head of the stream
}

// MQTTStatus describes the broker.
type MQTTStatus struct {
	Listen     []string `json:"listen"` // addresses
	Clients    int      `json:"clients"`
	Received   uint64   `json:"received"`   // messages that clients published
	Sent       uint64   `json:"sent"`       // messages sent to subscribers
	Violations uint64   `json:"violations"` // of the protocol; each ended a connection
	// Reasons are the violations by their reasons, those of MQTT 5.
	Reasons  map[string]uint64 `json:"violation_reasons,omitempty"`
	Refused  uint64            `json:"refused"`  // messages that were not taken, and not acknowledged
	Sessions int               `json:"sessions"` // of clients, connected or not
	Absent   int               `json:"absent"`   // sessions whose clients are away
	Waiting  uint64            `json:"waiting"`  // messages in the log that wait for sessions
	Dropped  uint64            `json:"dropped"`  // messages that a subscriber was away too long or too slow for
	Expired  uint64            `json:"expired"`  // messages that expired before a subscriber could have them
	Retained int               `json:"retained"` // topics with a retained message
	// NotRetained are messages beyond mqtt.max_retained.
	NotRetained uint64 `json:"not_retained"`
	// Ledgers are those of sessions and shared subscriptions for which messages
	// wait or have been lost, the ones with most waiting first, 20 at most.
	Ledgers []SessionStatus `json:"session_ledgers,omitempty"`
}

// SessionStatus says what became of the messages at QoS 1 and 2 that an MQTT
// session which outlasts its connections was to have. Its counts survive
// restarts, those of MQTTStatus do not.
type SessionStatus struct {
	Client    string  `json:"client"` // or the filter of a shared subscription, with $share
	User      string  `json:"user,omitempty"`
	Connected bool    `json:"connected"`
	Away      Seconds `json:"away"`          // how long it has not been connected
	Waiting   uint64  `json:"waiting"`       // messages in the log
	Bytes     int64   `json:"waiting_bytes"` // of these
	Sent      int     `json:"sent"`          // and not acknowledged
	Delivered uint64  `json:"delivered"`     // acknowledged; members of a shared subscription count it
	Dropped   uint64  `json:"dropped"`
	Expired   uint64  `json:"expired"`
}

// IngestStatus describes what comes in over HTTP.
type IngestStatus struct {
	Listen       string `json:"listen"`       // address
	Events       uint64 `json:"events"`       // on disk
	Invalid      uint64 `json:"invalid"`      // requests with a mistake
	Unauthorized uint64 `json:"unauthorized"` // requests without a right to send
	Refused      uint64 `json:"refused"`      // requests that may be sent again
}

// Seconds is a duration that JSON shows as a number of seconds.
type Seconds time.Duration

// Std returns s as a time.Duration.
func (s Seconds) Std() time.Duration { return time.Duration(s) }

// MarshalJSON writes seconds with as many decimals as it takes.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return err
	}
	*s = Seconds(math.Round(f * float64(time.Second)))
	return nil
}
