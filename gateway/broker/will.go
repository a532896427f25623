package broker

import (
	"fmt"
	"time"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// will is the message that a client leaves for the case that it vanishes.
type will struct {
	event event.Event
	delay time.Duration
	due   time.Duration // by the broker's clock, once its client has left; guarded by outbox.mu
}

// newWill returns the will of a CONNECT.
func newWill(client string, w *packet.Will) *will {
	p := &w.Properties
	e := event.Event{
		Topic:       w.Topic,
		Source:      "mqtt",
		Client:      client,
		Payload:     w.Payload,
		QoS:         w.QoS,
		Retain:      w.Retain,
		ContentType: p.ContentType,
	}
	if p.PayloadFormat == 1 || p.MessageExpiry > 0 || p.ResponseTopic != "" || len(p.Correlation) > 0 || len(p.User) > 0 {
		e.Properties = &event.Properties{
			Expiry:          p.MessageExpiry,
			HasExpiry:       p.MessageExpiry > 0,
			UTF8:            p.PayloadFormat == 1,
			ResponseTopic:   p.ResponseTopic,
			CorrelationData: p.Correlation,
			User:            p.User,
		}
	}
	return &will{event: e, delay: time.Duration(p.WillDelay) * time.Second}
}

// rest is how long a will that was kept has still to wait. A client that left
// before the gateway went down has had a part of its delay. Others, and those
// whose time came while there was no gateway, have some time to come back.
func (w *will) rest(now, grace time.Duration) time.Duration {
	if w.due == 0 {
		return max(w.delay, grace)
	}
	return min(max(w.due-now, grace), w.delay)
}

// cancelWill stops a will that waits and returns what would publish it.
func (s *session) cancelWill() (publish func()) {
	if s.will != nil && s.will.Stop() {
		publish = s.willNow
	}
	s.will, s.willNow = nil, nil
	return publish
}

// leaveWill publishes a will, now or after a delay unless the client comes
// back before.
func (b *Broker) leaveWill(s *session, w *will, delay time.Duration) {
	if delay == 0 {
		b.publishWill(s, w)
		return
	}
	s.out.mu.Lock()
	w.due = b.keeper.clock() + delay
	s.out.mu.Unlock()
	b.waitWill(s, w, delay)
}

// waitWill publishes a will after a delay unless the client comes back before.
func (b *Broker) waitWill(s *session, w *will, delay time.Duration) {
	publish := func() {
		b.publishWill(s, w)
		if !s.out.outlasts() { // it was there for its will only
			b.endSession(s)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil && !s.banned { // otherwise the client is back already, or its user gone
		s.willNow = publish
		s.will = time.AfterFunc(delay, publish)
	}
}

// publishWill publishes a will. Whether the client may do so is looked at when
// it happens. It is on disk as the session's until it is there as an event.
func (b *Broker) publishWill(s *session, w *will) {
	if !b.enterIntake() {
		return // at shutdown the server goes, not the clients
	}
	defer b.leaveIntake()
	s.mu.Lock()
	banned := s.banned
	s.mu.Unlock()
	if banned || !s.rights(b).mayPublish(w.event.Topic) {
		b.count.refused.Add(1)
		b.say("mqtt will refused", s.id, fmt.Errorf("user %q may not publish to %s any more: %v", s.user, w.event.Topic, s.rights(b).toPublish(w.event.Topic)))
		return
	}
	e := w.event
	e.Received = event.At(time.Now())
	done := func(err error) {
		if err != nil {
			b.log.Warn("mqtt will lost", "client", s.id, "err", err)
			return
		}
		s.willDone(b, w)
	}
	b.countReceived(1)
	if err := b.opt.Emit(Batch{Client: s.id, Events: []event.Event{e}}, done); err != nil {
		done(err)
	}
}

// willDone forgets a will that is published or is not to be. It does not wait.
func (s *session) willDone(b *Broker, w *will) {
	o := &s.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if s.lastWill != w {
		return
	}
	s.lastWill = nil
	switch {
	case !o.stored:
	case o.over || !o.lasts:
		o.stored = false
		b.keeper.write(forgotten(s.id)...)
	default:
		_ = o.write(true, false, nil)
	}
}
