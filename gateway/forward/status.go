package forward

import (
	"slices"
	"strings"
	"time"
)

// State says what a forwarder is doing.
type State string

// The states of a forwarder.
const (
	Idle     State = "idle"     // nothing to send, or between two batches
	Sending  State = "sending"  // an attempt is in flight
	Retrying State = "retrying" // the last attempt failed, the batch is kept
)

// Status is what a forwarder has done since it was made and what it is doing
// now. The ledger that survives restarts is the log's.
type Status struct {
	Name        string
	State       State
	Err         string    // why the last attempt failed; empty once one succeeded
	Attempts    int       // failed in a row
	NextAttempt time.Time // when the batch is sent again; zero if not waiting for that
	LastSuccess time.Time // when the far side last accepted something; zero if never

	Sent     uint64 // events that the far side accepted
	Filtered uint64 // events that the topic filters or the sink left out
	Refused  uint64 // events that became dead letters
	Batches  uint64 // batches that the far side accepted at least in part
	Bytes    uint64 // of the events in them, by event.Size
}

// Status returns a snapshot. It is safe for concurrent use.
func (f *Forwarder) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// failed shows a fault of the destination. It logs only when the text of the
// error changes, so that an outage of days is a line and not a flood.
func (f *Forwarder) failed(r *result) {
	if f.failures == 1 {
		f.since = time.Now()
	}
	f.mu.Lock()
	f.status.State = Retrying
	f.status.Err = r.err.Error()
	f.status.Attempts = f.failures
	f.mu.Unlock()
	if text := lasting(r.err.Error()); text != f.lastErr {
		f.lastErr = text
		f.log.Warn("destination does not accept events, they are kept",
			"stream", f.lanes.batch.Stream, "offset", r.parcel.first(), "attempt", f.failures, "err", r.err)
	}
}

// lasting returns the words of text that have no digit in them: request ids,
// ports and pauses differ from one attempt to the next and are no news.
func lasting(text string) string {
	words := strings.Fields(text)
	words = slices.DeleteFunc(words, func(w string) bool { return strings.ContainsAny(w, "0123456789") })
	return strings.Join(words, " ")
}

// recovered ends a run of failures.
func (f *Forwarder) recovered(r *result) {
	if f.failures == 0 {
		return
	}
	f.log.Info("destination answers again",
		"stream", f.lanes.batch.Stream, "offset", r.parcel.first(), "attempt", f.failures+1, "after", time.Since(f.since).Round(time.Millisecond))
	f.failures, f.lastErr = 0, ""
	f.mu.Lock()
	f.status.Err, f.status.Attempts = "", 0
	f.mu.Unlock()
}

// buried logs a dead letter when its reason differs from the last one's.
func (f *Forwarder) buried(stream string, d *DeadLetter) {
	text := lasting(d.Err)
	if text == f.lastDead {
		return
	}
	f.lastDead = text
	f.log.Warn("event refused for good, it is a dead letter now",
		"stream", stream, "offset", d.Event.Offset, "reason", d.Reason, "attempt", d.Attempts, "err", d.Err)
}

// booked counts what is booked.
func (f *Forwarder) booked(o *Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Sent += uint64(o.Delivered)
	f.status.Filtered += uint64(o.Filtered)
	f.status.Refused += uint64(len(o.Dead))
}

// accepted counts a batch of which the far side has taken something.
func (f *Forwarder) accepted(r *result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Batches++
	f.status.Bytes += uint64(r.size)
	f.status.LastSuccess = time.Now()
}

// sending shows that an attempt is under way.
func (f *Forwarder) sending() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failures == 0 {
		f.status.State = Sending
	}
	f.status.NextAttempt = time.Time{}
}

// idle shows that no attempt is under way.
func (f *Forwarder) idle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failures == 0 && f.flying == 0 {
		f.status.State = Idle
	}
}

// rest shows until when failed attempts rest.
func (f *Forwarder) rest() {
	if f.failures == 0 || f.flying > 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.NextAttempt = f.until
}
