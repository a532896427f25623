package demo

import (
	"fmt"
	"slices"
	"time"

	"holdfast/gateway/ops"
)

// Report is what became of every event, counted by those who sent, kept and
// received them, each for itself.
type Report struct {
	Acknowledged uint64 // messages and readings, by the count of the boards and the devices
	Wills        uint64 // that the broker published for boards whose link broke
	Resent       uint64 // messages that boards sent again, or whose acknowledgement they never saw
	Broken       uint64 // connections that broke for no reason of the boards, or were never quite made: the broker may have published a will for each
	Logged       uint64 // events in the stream events, by the log
	Results      uint64 // alerts and averages in their streams, by the log
	Accounts     []Account
	Lost         uint64 // acknowledged to a board, and not in the cloud with the same content

	Prompt Latency // of alerts, from the sensor's event to the cloud, with the link up
	Held   Latency // of alerts that had to wait for the link
	Outage time.Duration
	Peak   uint64 // largest backlog

	Faults []string // what does not add up, one sentence each; none if all does
}

// Account is one line of the ledger: of a destination and a stream.
type Account struct {
	Destination, Stream string
	ops.Ledger
	Received uint64 // different events in the cloud, by its own count
	Again    uint64 // arrivals of an id that was there already
}

// Other is what was neither delivered, dead, dropped nor pending.
func (a Account) Other() uint64 { return a.Filtered + a.Expired + a.Damaged + a.SkippedAtStart }

// Latency sums up how long some things took.
type Latency struct {
	Count    int
	P50, Max time.Duration
}

func latency(all []time.Duration) Latency {
	if len(all) == 0 {
		return Latency{}
	}
	sorted := slices.Sorted(slices.Values(all))
	return Latency{len(sorted), sorted[len(sorted)/2], sorted[len(sorted)-1]}
}

// Delivered returns how many different events and how many results are in the
// cloud.
func (r *Report) Delivered() (events, results uint64) {
	for _, a := range r.Accounts {
		if a.Stream == streamEvents {
			events += a.Received
		} else {
			results += a.Received
		}
	}
	return events, results
}

// Again returns how many arrivals the cloud knew by their id: batches that came
// again because the link broke before the answer.
func (r *Report) Again() (n uint64) {
	for _, a := range r.Accounts {
		n += a.Again
	}
	return n
}

// Repeated returns how many events are in the log beyond those acknowledged and
// the wills: boards sent them again because they never saw the first
// acknowledgement, or had a will that they do not know of.
func (r *Report) Repeated() uint64 {
	return r.Logged - min(r.Logged, r.Acknowledged+r.Wills)
}

func (r *Report) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// check compares the counts of all parties.
func (r *Report) check() {
	if told := r.Acknowledged + r.Wills; r.Logged < told {
		r.fault("%d events were acknowledged or are last wills, the log has %d", told, r.Logged)
	} else if most := told + r.Resent + r.Broken; r.Logged > most {
		r.fault("the log has %d events, %d more than sensors sent", r.Logged, r.Logged-most)
	}
	if r.Lost > 0 {
		r.fault("%d messages that were acknowledged to boards are not in the cloud", r.Lost)
	}
	for _, a := range r.Accounts {
		name := a.Destination + "/" + a.Stream
		switch {
		case !a.Balanced():
			r.fault("the ledger of %s does not balance", name)
		case a.Pending > 0:
			r.fault("%d events of %s are not delivered yet", a.Pending, name)
		case a.Delivered != a.Appended:
			r.fault("of %d events of %s %d are delivered", a.Appended, name, a.Delivered)
		case a.Received != a.Delivered:
			r.fault("%d events of %s are delivered, the cloud has %d", a.Delivered, name, a.Received)
		}
	}
	events, results := r.Delivered()
	if events != r.Logged || results != r.Results {
		r.fault("the log has %d events and %d results, the cloud %d and %d", r.Logged, r.Results, events, results)
	}
}

// report counts everything as it is now.
func (p *play) report() Report {
	st := p.gateway.Status()
	c := &p.sensors.counters
	r := Report{
		Acknowledged: uint64(c.Acknowledged.Load()) + p.sensors.captured(),
		Wills:        uint64(c.Cuts.Load()),
		Resent:       uint64(c.Resent.Load() + c.Published.Load() - c.Acknowledged.Load()),
		Broken:       uint64(c.Breaks.Load() + c.Refusals.Load() + c.GivenUp.Load()),
		Lost:         p.promises.broken(),
		Outage:       p.outage, Peak: p.peak,
	}
	for _, s := range st.Streams {
		switch s.Name {
		case streamEvents:
			r.Logged = s.Appended
		case streamAlerts, streamAverages:
			r.Results += s.Appended
		}
	}
	p.cloud.mu.Lock()
	defer p.cloud.mu.Unlock()
	var disordered, averaged uint64
	for _, d := range st.Destinations {
		a := Account{Destination: d.Name, Stream: d.Stream, Ledger: d.Ledger}
		if t := p.cloud.received[place{d.Name, d.Stream}]; t != nil {
			a.Received, a.Again = t.distinct, t.again
			disordered += t.disordered
			averaged += t.measured
		}
		r.Accounts = append(r.Accounts, a)
	}
	r.Prompt, r.Held = latency(p.cloud.prompt), latency(p.cloud.held)
	r.check()
	if disordered > 0 {
		r.fault("%d events came to the cloud out of order", disordered)
	}
	for _, text := range p.cloud.broken {
		r.fault("the cloud could not read a request: %s", text)
	}
	for _, rule := range st.Rules {
		if rule.Name == ruleAverages && rule.Passed != averaged {
			r.fault("%d temperatures were measured, the averages in the cloud are of %d", rule.Passed, averaged)
		}
		if rule.Failed > 0 {
			r.fault("the rule %s failed on %d events", rule.Name, rule.Failed)
		}
	}
	return r
}
