package gateway

import (
	"strconv"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
)

// letter says why an event is a dead letter.
type letter struct {
	destination, rule string // one of them
	reason, err       string
	attempts          int
	first, last       event.Time
}

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
		event.Property{Name: "holdfast-reason", Value: l.reason},
		event.Property{Name: "holdfast-error", Value: l.err},
		event.Property{Name: "holdfast-attempts", Value: strconv.Itoa(l.attempts)},
		event.Property{Name: "holdfast-first", Value: l.first.String()},
		event.Property{Name: "holdfast-last", Value: l.last.String()},
	)
	if l.rule != "" {
		p.User = append(p.User, event.Property{Name: "holdfast-rule", Value: l.rule})
	}
	if l.destination != "" {
		p.User = append(p.User, event.Property{Name: "holdfast-destination", Value: l.destination})
	}
	d.Properties = &p
	return d
}

func deadLetter(d *forward.DeadLetter, gateway, stream, destination string) event.Event {
	return deadEvent(&d.Event, gateway, stream, letter{
		destination: destination, reason: d.Reason, err: d.Err, attempts: d.Attempts, first: d.First, last: d.Last,
	})
}
