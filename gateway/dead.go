package gateway

import (
	"strconv"
	"strings"
	"time"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/rules"
)

// The reasons why an event is a dead letter: a closed list, for filters. A
// destination gives refused and too_large.
const (
	reasonUndecodable = "undecodable" // a rule could not read the payload
	reasonRule        = "rule_failed" // an expression of a rule failed
	reasonRefused     = "refused"     // the destination refused the event for good
	reasonTooLarge    = "too_large"   // and because of its size
)

var reasons = []string{reasonUndecodable, reasonRule, reasonRefused, reasonTooLarge}

// letter says why an event is a dead letter.
type letter struct {
	destination, rule string // one of them
	reason, err       string
	position          string // in the rule file
	attempts          int
	first, last       event.Time
}

// The user properties of a dead letter. They stand behind those of the event,
// reason first.
const (
	propReason      = "holdfast-reason"
	propError       = "holdfast-error"
	propAttempts    = "holdfast-attempts"
	propFirst       = "holdfast-first"
	propLast        = "holdfast-last"
	propReceived    = "holdfast-received"
	propCause       = "holdfast-cause"
	propRule        = "holdfast-rule"
	propPosition    = "holdfast-position"
	propDestination = "holdfast-destination"
)

// deadEvent makes the record of a dead letter in the stream dead: the event
// as it was, its identity as the cause, and the circumstances as MQTT user
// properties behind its own.
func deadEvent(e *event.Event, gateway, stream string, l letter) event.Event {
	d := *e
	id := e.ID(gateway, stream)
	d.Cause = &id
	if d.Time == 0 {
		d.Time = e.Received
	}
	p := event.Properties{}
	if e.Properties != nil {
		p = *e.Properties
	}
	p.User = append(p.User[:len(p.User):len(p.User)],
		event.Property{Name: propReason, Value: l.reason},
		event.Property{Name: propError, Value: l.err},
		event.Property{Name: propAttempts, Value: strconv.Itoa(l.attempts)},
		event.Property{Name: propFirst, Value: l.first.String()},
		event.Property{Name: propLast, Value: l.last.String()},
		event.Property{Name: propReceived, Value: e.Received.String()},
	)
	for _, more := range []event.Property{{Name: propRule, Value: l.rule}, {Name: propPosition, Value: l.position}, {Name: propDestination, Value: l.destination}} {
		if more.Value != "" {
			p.User = append(p.User, more)
		}
	}
	if e.Cause != nil {
		p.User = append(p.User, event.Property{Name: propCause, Value: e.Cause.String()})
	}
	d.Properties = &p
	return d
}

func deadLetter(d *forward.DeadLetter, gateway, stream, destination string) event.Event {
	return deadEvent(&d.Event, gateway, stream, letter{
		destination: destination, reason: d.Reason, err: d.Err, attempts: d.Attempts, first: d.First, last: d.Last,
	})
}

// ruleLetter makes the dead letter of an event that a rule failed on.
func ruleLetter(f *rules.Failure, gateway, stream string, now event.Time) event.Event {
	reason := reasonRule
	if rules.Undecodable(f.Err) {
		reason = reasonUndecodable
	}
	return deadEvent(&f.Event, gateway, stream, letter{
		rule: f.Rule, position: f.Pos.String(), reason: reason, err: f.Err.Error(), attempts: 1, first: f.Event.Received, last: now,
	})
}

// readLetter takes a record of the stream dead apart: the event that it was,
// and why it is there. It is the inverse of deadEvent; what a record lacks
// stays zero. A client's own properties of these names stand before ours.
func readLetter(d *event.Event) (e event.Event, l letter) {
	e = *d
	e.Epoch, e.Offset, e.Cause = 0, 0, nil
	if d.Cause != nil {
		e.Epoch, e.Offset = d.Cause.Epoch, d.Cause.Offset
	}
	e.Received = d.Happened()
	if d.Properties == nil {
		return e, l
	}
	p := *d.Properties
	from := len(p.User) - 1
	for from >= 0 && p.User[from].Name != propReason {
		from--
	}
	if from < 0 {
		return e, l
	}
	for _, u := range p.User[from:] {
		switch u.Name {
		case propReason:
			l.reason = u.Value
		case propError:
			l.err = u.Value
		case propAttempts:
			l.attempts, _ = strconv.Atoi(u.Value)
		case propFirst:
			l.first = readStamp(u.Value)
		case propLast:
			l.last = readStamp(u.Value)
		case propReceived:
			e.Received = readStamp(u.Value)
		case propRule:
			l.rule = u.Value
		case propPosition:
			l.position = u.Value
		case propDestination:
			l.destination = u.Value
		case propCause:
			e.Cause = readID(u.Value)
		}
	}
	if e.Time == e.Received {
		e.Time = 0 // the same to everybody who asks when it happened
	}
	p.User = p.User[:from:from]
	e.Properties = &p
	if len(p.User) == 0 && !p.HasExpiry && !p.UTF8 && p.ResponseTopic == "" && p.CorrelationData == nil {
		e.Properties = nil
	}
	return e, l
}

func readStamp(text string) event.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0
	}
	return event.At(t)
}

// readID reads what event.ID.String wrote; nil if it did not.
func readID(text string) *event.ID {
	part := strings.Split(text, "/")
	if len(part) != 4 {
		return nil
	}
	epoch, err1 := strconv.ParseUint(part[1], 16, 64)
	offset, err2 := strconv.ParseUint(part[3], 10, 64)
	if err1 != nil || err2 != nil {
		return nil
	}
	return &event.ID{Gateway: part[0], Epoch: epoch, Stream: part[2], Offset: offset}
}
