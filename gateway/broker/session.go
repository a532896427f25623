package broker

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/gateway/event"
)

// session is what the broker keeps of a client beside mochi's session, for as
// long as that lives.
//
// Messages at QoS 2 are taken once by their packet identifiers, which are held
// from PUBLISH to PUBREL [MQTT-4.3.3-10]:
//
//   - On one connection every further PUBLISH with a held identifier is the
//     same message, whatever its DUP flag.
//   - After a reconnect, only one with DUP is. A client that repeats a message
//     must set it [MQTT-3.3.1-1]; without it the client has begun anew (it was
//     told, for instance, that no session is present after the gateway was
//     restarted), and taking its new message for the old one would lose it.
//
// So a client that repeats messages without DUP may produce an event twice,
// but no message is lost.
type session struct {
	id   string
	user string // whose it is; nobody else can take it up

	lastRights atomic.Pointer[rights]

	mu      sync.Mutex
	who     identity  // of the newest connection
	banned  bool      // its user is gone
	settled sync.Cond // on mu: a commit has ended
	conn    *conn     // the newest connection, nil when it has ended
	held    map[uint16]hold
	will    *time.Timer // for a will that waits
	willNow func()      // publishes it

	outbox outbox
}

// hold is a QoS 2 packet identifier between PUBLISH and PUBREL.
type hold struct {
	c         *conn // the connection on which it was last seen, nil from disk
	committed bool
	counted   bool // against the receive maximum of c
}

func newSession(id, user string) *session {
	s := &session{id: id, user: user}
	s.settled.L = &s.mu
	return s
}

// take reports whether a PUBLISH at QoS 2 is a new message, and holds its
// packet identifier if so and the message is allowed. If an earlier connection
// of the client has the same one on its way to the disk, it waits for the
// outcome.
func (s *session) take(c *conn, id uint16, dup, allowed bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.held[id]
	for ok && !h.committed && h.c != c {
		s.settled.Wait()
		h, ok = s.held[id]
	}
	if ok && (h.c == c || dup) {
		if h.c != c {
			s.held[id] = hold{c: c, committed: true}
		}
		return false
	}
	if !allowed {
		return true
	}
	if s.held == nil {
		s.held = make(map[uint16]hold)
	}
	s.held[id] = hold{c: c, counted: true}
	return true
}

// settle notes the outcome of the commit that a flight's QoS 2 messages were in.
func (s *session) settle(f *flight, r refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, a := range f.acks {
		if a.kind != typePubrec || a.reason != codeSuccess {
			continue
		}
		h, ok := s.held[a.id]
		switch {
		case !ok || h.c != f.c || h.committed:
		case r.of(i):
			delete(s.held, a.id)
		default:
			h.committed = true
			s.held[a.id] = h
		}
	}
	s.settled.Broadcast()
}

// holds reports whether a message with the packet identifier has been taken.
func (s *session) holds(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.held[id]
	return ok
}

// release lets go of packet identifiers. It returns those that were held, the
// acknowledgements for all, and how many counted against the receive maximum.
func (s *session) release(ids []uint16) (known []uint16, acks []ack, counted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		h, ok := s.held[id]
		if !ok {
			acks = append(acks, ack{typePubcomp, codeUnknownID, id})
			continue
		}
		delete(s.held, id)
		known = append(known, id)
		acks = append(acks, ack{typePubcomp, codeSuccess, id})
		if h.counted {
			counted++
		}
	}
	return known, acks, counted
}

// forget empties the set and returns what was in it.
func (s *session) forget() []uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []uint16
	for id := range s.held {
		ids = append(ids, id)
	}
	s.held = nil
	s.settled.Broadcast()
	return ids
}

// will is the message that a client leaves for the case that it vanishes.
type will struct {
	event event.Event
	delay time.Duration
}

var (
	errTaken   = errors.New("the client id belongs to another user")
	errRevoked = errors.New("the user was removed or has another password")
)

// attach makes c the connection of its client's session. fresh says that the
// client wants none of what was before. It returns the connection that had the
// session until now, if that has not ended; the error is errTaken if the
// session is that of another user.
func (b *Broker) attach(c *conn, id string, fresh bool) (old *conn, err error) {
	b.mu.Lock()
	s, known := b.sessions[id]
	switch {
	case known && s.user != c.who.user:
		err = errTaken
	case !b.access.Load().admits(c.who): // since it was let in
		err = errRevoked
	}
	if err != nil {
		b.mu.Unlock()
		return nil, err
	}
	if !known {
		s = newSession(id, c.who.user)
		b.sessions[id] = s
	}
	c.session = s
	s.mu.Lock()
	old, s.conn = s.conn, c
	s.who, s.banned = c.who, false
	publish := s.cancelWill()
	s.mu.Unlock()
	if old != nil && old.ends {
		fresh = true
	}
	if b.opt.Held != nil && !b.recalled[id] && !known {
		if ids := b.opt.Held(id); len(ids) > 0 {
			b.recalled[id] = true // from now on the broker knows better
			s.mu.Lock()
			s.held = make(map[uint16]hold, len(ids))
			for _, v := range ids {
				s.held[v] = hold{committed: true}
			}
			s.mu.Unlock()
		}
	}
	b.mu.Unlock()
	if fresh {
		b.forget(s)
		if publish != nil {
			publish() // the session that it belongs to has ended [MQTT-3.1.3-9]
		}
	}
	return old, nil
}

// cancelWill stops a will that waits and returns what would publish it.
func (s *session) cancelWill() (publish func()) {
	if s.will != nil && s.will.Stop() {
		publish = s.willNow
	}
	s.will, s.willNow = nil, nil
	return publish
}

// detach ends what c had of its session, after mochi has left it.
func (b *Broker) detach(c *conn) {
	s := c.session
	if s == nil {
		return
	}
	props := &c.cl.Properties
	ends := props.Clean
	if c.v5 {
		ends = props.Props.SessionExpiryInterval == 0
	}
	s.mu.Lock()
	current := s.conn == c
	heir := s.conn
	if current {
		s.conn = nil
	}
	banned := s.banned
	s.mu.Unlock()
	if !current && heir != nil {
		b.repair(heir)
	}
	if w := c.will; w != nil && !c.noWill {
		if c.v5 {
			w.delay = min(w.delay, time.Duration(props.Props.SessionExpiryInterval)*time.Second)
		}
		b.leaveWill(s, w)
	}
	if current && banned {
		b.purge(s)
	} else if current && ends {
		b.endSession(s)
	}
}

// endSession forgets a session that nothing can come back to.
func (b *Broker) endSession(s *session) {
	b.mu.Lock()
	s.mu.Lock()
	live := s.conn != nil // somebody took it up in the meantime
	s.mu.Unlock()
	if b.sessions[s.id] == s && !live {
		delete(b.sessions, s.id)
	}
	b.mu.Unlock()
	if !live {
		b.forget(s)
	}
}

// forget drops the session's QoS 2 state, in memory and on disk.
func (b *Broker) forget(s *session) {
	ids := s.forget()
	if len(ids) == 0 || b.opt.Release == nil || !b.enterIntake() {
		return
	}
	defer b.leaveIntake()
	// If it fails the identifiers stay on disk, where they do no harm but
	// for a client that repeats one of them after a restart.
	if err := b.opt.Release(s.id, ids, func(error) {}); err != nil {
		b.log.Debug("release packet identifiers", "client", s.id, "err", err)
	}
}

// leaveWill publishes a will, now or after its delay unless the client comes
// back before. Whether the client may do so is looked at when it happens.
func (b *Broker) leaveWill(s *session, w *will) {
	publish := func() {
		if !b.enterIntake() {
			return // at shutdown the server goes, not the clients
		}
		defer b.leaveIntake()
		s.mu.Lock()
		banned := s.banned
		s.mu.Unlock()
		if banned || !s.rights(b).mayPublish(w.event.Topic) {
			b.count.refused.Add(1)
			b.say("mqtt will refused", s.id, fmt.Errorf("user %q may not publish to %s any more", s.user, w.event.Topic))
			return
		}
		w.event.Received = event.At(time.Now())
		lost := func(err error) {
			if err != nil {
				b.log.Warn("mqtt will lost", "client", s.id, "err", err)
			}
		}
		b.countReceived(1)
		batch := Batch{Client: s.id, Events: []event.Event{w.event}}
		if err := b.opt.Emit(batch, lost); err != nil {
			lost(err)
		}
	}
	if w.delay == 0 {
		publish()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil && !s.banned { // otherwise the client is back already, or its user gone
		s.willNow = publish
		s.will = time.AfterFunc(w.delay, publish)
	}
}
