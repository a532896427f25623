package broker

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/gateway/broker/packet"
)

// session is what the broker keeps of a client, be it for one connection or
// beyond. mochi has no part in it.
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

	out outbox

	// Guarded by out.mu, never under mu: a connection is locked under out.mu, and
	// mu under a connection.
	lastWill *will         // what is on disk of its wills
	password bool          // its user is in the users file
	expiry   time.Duration // of the session without a connection
	left     time.Duration // when the last connection ended, by the broker's clock
}

// hold is a QoS 2 packet identifier between PUBLISH and PUBREL.
type hold struct {
	c         *conn // the connection on which it was last seen, nil from disk
	committed bool
	counted   bool // against the receive maximum of c
}

func newSession(b *Broker, id, user string) *session {
	s := &session{id: id, user: user}
	s.settled.L = &s.mu
	s.out.b, s.out.s = b, s
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
		if a.Type != packet.TypePubrec || a.Reason != packet.Success {
			continue
		}
		h, ok := s.held[a.ID]
		switch {
		case !ok || h.c != f.c || h.committed:
		case r.of(i):
			delete(s.held, a.ID)
		default:
			h.committed = true
			s.held[a.ID] = h
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
func (s *session) release(ids []uint16) (known []uint16, acks []packet.Ack, counted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		h, ok := s.held[id]
		if !ok {
			acks = append(acks, packet.Ack{Type: packet.TypePubcomp, Reason: packet.PacketIDNotFound, ID: id})
			continue
		}
		delete(s.held, id)
		known = append(known, id)
		acks = append(acks, packet.Ack{Type: packet.TypePubcomp, ID: id})
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

var (
	errTaken    = errors.New("the client id belongs to another user")
	errRevoked  = errors.New("the user was removed or has another password")
	errSessions = errors.New("there are twice as many sessions as clients may be connected")
)

// attach makes c the connection of its client's session, or of a new one.
// fresh says that the client wants none of what was before. Nothing is sent
// before begin. It returns the connection that had the session until now, if
// that has not ended; the error is errTaken if the session is that of another
// user.
func (b *Broker) attach(c *conn, id string, fresh bool) (old *conn, err error) {
	old, publish, err := b.handOver(c, id, fresh)
	if publish != nil {
		publish() // the session that it belongs to has ended [MQTT-3.1.3-9]
	}
	return old, err
}

func (b *Broker) handOver(c *conn, id string, fresh bool) (old *conn, publish func(), err error) {
	// Nobody is given messages while a session goes from one to another.
	b.route.Lock()
	defer b.route.Unlock()
	b.mu.Lock()
	s, known := b.sessions[id]
	switch {
	case known && s.user != c.who.user:
		err = errTaken
	case !b.access.Load().admits(c.who): // since it was let in
		err = errRevoked
	case !known && len(b.sessions) >= 2*b.opt.MaxClients: // client ids can be made up
		err = errSessions
	}
	if err != nil {
		b.mu.Unlock()
		return nil, nil, err
	}
	var over *session
	if known {
		lapsed := s.out.lapsedBy(b.keeper.clock()) // which the keeper notices a little later
		if lapsed {
			b.count.sessions.Add(1)
		}
		if fresh || lapsed || !s.out.outlasts() {
			over = s
		}
	}
	if !known || over != nil {
		s = newSession(b, id, c.who.user)
		b.sessions[id] = s
	}
	c.session, c.present = s, known && over == nil
	s.mu.Lock()
	old, s.conn = s.conn, c
	s.who, s.banned = c.who, false
	publish = s.cancelWill()
	s.mu.Unlock()
	if b.opt.Held != nil && !b.recalled[id] && over == nil && (!known || c.present) {
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
	if over != nil {
		over.mu.Lock()
		old = over.conn
		if late := over.cancelWill(); late != nil {
			publish = late
		}
		over.mu.Unlock()
		stored := b.conclude(over)
		s.out.mu.Lock()
		s.out.stored = stored // what is there is replaced
		s.out.mu.Unlock()
	} else {
		s.out.end(nil)
	}
	if fresh {
		b.forget(s)
	}
	if !fresh && over == nil {
		publish = nil
	}
	o := &s.out
	o.mu.Lock()
	o.lasts, o.taken = !c.ends, true
	s.lastWill, s.password = c.will, c.who.hash != ""
	s.expiry = b.opt.Sessions.Expiry
	if c.v5 {
		s.expiry = min(s.expiry, time.Duration(c.expiry)*time.Second)
	}
	if !c.present {
		o.keepUp()
	}
	o.mu.Unlock()
	return old, publish, nil
}

// outlasts reports whether the session is there without a connection.
func (o *outbox) outlasts() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lasts
}

// lapsed reports whether the client has been away for longer than its session
// lasts. The caller holds o.mu.
func (o *outbox) lapsed(now time.Duration) bool {
	s := o.s
	return o.c == nil && !o.taken && o.lasts && !o.over && s.expiry > 0 && now-s.left > s.expiry
}

func (o *outbox) lapsedBy(now time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lapsed(now)
}

// conclude ends the outbox of a session that nothing can come back to, and its
// QoS 2 state. It reports whether there was anything of it on disk, which stays
// there. The caller holds the lock of routing.
func (b *Broker) conclude(s *session) (stored bool) {
	o := &s.out
	o.mu.Lock()
	o.over, o.c = true, nil
	stored = o.stored
	o.mu.Unlock()
	o.unsubscribeAll()
	o.mu.Lock()
	o.keepUp()
	o.window, o.memo, o.debts, o.arrears, o.waits = window{}, nil, nil, nil, departure{}
	o.mu.Unlock()
	b.forget(s)
	return stored
}

// detach ends what c had of its session.
func (b *Broker) detach(c *conn) {
	s := c.session
	if s == nil {
		return
	}
	b.route.Lock()
	s.mu.Lock()
	current := s.conn == c
	if current {
		s.conn = nil
	}
	banned := s.banned
	s.mu.Unlock()
	s.out.end(c)
	s.out.mu.Lock()
	if current {
		s.out.taken = false
		s.left = b.keeper.clock()
		s.expiry = b.opt.Sessions.Expiry
		if c.v5 { // DISCONNECT may have changed it
			s.expiry = min(s.expiry, time.Duration(c.expiry)*time.Second)
		}
		s.out.lasts = !c.ends
	}
	over, owed := s.out.over, len(s.out.arrears) > 0
	s.out.mu.Unlock()
	b.route.Unlock()
	if w := c.will; w != nil {
		switch {
		case c.noWill:
			s.willDone(b, w)
		case over:
			b.leaveWill(s, w, 0)
		case c.v5:
			b.leaveWill(s, w, min(w.delay, time.Duration(c.expiry)*time.Second))
		default:
			b.leaveWill(s, w, w.delay)
		}
	}
	switch {
	case current && banned:
		b.purge(s)
	case current && c.ends:
		b.endSession(s)
	case current && (c.v5 || owed):
		b.keeper.note(s) // how long it is kept may have changed
	}
}

// endSession forgets a session that nothing can come back to.
func (b *Broker) endSession(s *session) {
	b.route.Lock()
	b.mu.Lock()
	s.mu.Lock()
	live := s.conn != nil // somebody took it up in the meantime
	s.mu.Unlock()
	mine := b.sessions[s.id] == s && !live
	if mine {
		delete(b.sessions, s.id)
	}
	b.mu.Unlock()
	if mine {
		b.conclude(s)
	}
	b.route.Unlock()
	if !mine {
		return
	}
	s.mu.Lock()
	publish := s.cancelWill()
	banned := s.banned
	s.mu.Unlock()
	s.out.mu.Lock()
	waits := s.lastWill != nil
	s.out.mu.Unlock()
	if publish != nil && !banned {
		publish()
	} else if !waits || banned {
		b.keeper.forget(s)
	}
}

// expire ends a session whose client has not come back in time.
func (b *Broker) expire(s *session) {
	s.mu.Lock()
	back := s.conn != nil
	s.mu.Unlock()
	if !back {
		b.count.sessions.Add(1)
		b.endSession(s)
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
