package broker

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"holdfast/gateway/broker/packet"
)

// Stats count what a broker did since it was made.
type Stats struct {
	Clients    int    // connected now
	Received   uint64 // messages handed to Emit, wills among them
	Refused    uint64 // messages that Emit or the broker refused, for want of rights among others
	Duplicates uint64 // repeated QoS 2 messages, answered without an event
	Delivered  uint64 // messages queued for connected subscribers
	Dropped    uint64 // messages that a subscriber was away too long or too slow for
	Expired    uint64 // messages whose expiry interval ended before a subscriber could have them
	Sessions   int    // connected or not
	Absent     int    // sessions without a connection
	Waiting    uint64 // messages that wait in the log for sessions and shared subscriptions
	Bytes      int64  // of these
	Shared     int    // subscriptions that are shared
	Expiries   uint64 // sessions that have expired
	Retained   int    // topics with a retained message

	RetainedBytes int64  // the memory that these take
	NotRetained   uint64 // messages that would have been too much
	// Violations are connections closed for a breach of the protocol, by the
	// names of their reason codes. All reasons are there, also with 0.
	Violations map[string]uint64
}

// SessionStats are what became of the messages at QoS 1 and 2 that a session
// which outlasts its connections was to have, or the members of a shared
// subscription together. Each such message is counted once: it waits, is on its
// way, or is delivered, dropped or expired. The last three are on disk with the
// place in the log, so that they are right after a crash too.
type SessionStats struct {
	Client    string // or the filter of a shared subscription, with $share
	User      string
	Connected bool          // or, for a shared subscription, one of its members
	Away      time.Duration // how long it has not been
	Waiting   uint64        // in the log
	Bytes     int64         // of these
	Sent      int           // and not acknowledged
	Delivered uint64        // acknowledged; 0 for a shared subscription, whose members count it
	Dropped   uint64        // too much or too old, removed from the log, too large for the client, or not allowed any more
	Expired   uint64        // by their message expiry interval
}

// outcome counts what became of messages.
type outcome struct{ dropped, expired uint64 }

// Stats returns the counters.
func (b *Broker) Stats() Stats {
	st := Stats{
		Clients:    int(atomic.LoadInt64(&b.server.Info.ClientsConnected)),
		Received:   b.count.received.Load(),
		Refused:    b.count.refused.Load(),
		Duplicates: b.count.duplicates.Load(),
		Delivered:  b.count.delivered.Load(),
		Dropped:    b.count.dropped.Load(),
		Violations: b.violations(),
		Expired:    b.count.expired.Load(),
		Expiries:   b.count.sessions.Load(),
	}
	st.Retained, st.RetainedBytes, st.NotRetained = b.retained.count()
	for _, s := range b.allSessions() {
		s.out.mu.Lock()
		st.Sessions++
		st.Waiting += s.out.pending
		st.Bytes += s.out.bytes
		if s.out.c == nil {
			st.Absent++
		}
		s.out.mu.Unlock()
	}
	for _, g := range b.allGroups() {
		g.mu.Lock()
		st.Waiting += g.pending
		st.Bytes += g.bytes
		st.Shared += len(g.members)
		g.mu.Unlock()
	}
	return st
}

// reasons are the names of what a client can do against the protocol, by the
// reason codes of MQTT 5.
var reasons = map[byte]string{
	0:                              "connect_timeout",
	packet.MalformedPacket:         "malformed_packet",
	packet.ProtocolError:           "protocol_error",
	packet.UnsupportedVersion:      "unsupported_version",
	packet.ClientIDNotValid:        "client_id_invalid",
	packet.BadAuthenticationMethod: "bad_authentication_method",
	packet.TopicFilterInvalid:      "topic_filter_invalid",
	packet.TopicNameInvalid:        "topic_name_invalid",
	packet.ReceiveMaximumExceeded:  "receive_maximum_exceeded",
	packet.TopicAliasInvalid:       "topic_alias_invalid",
	packet.PacketTooLarge:          "packet_too_large",
	packet.QuotaExceeded:           "quota_exceeded",
}

// violations returns how often each reason closed a connection.
func (b *Broker) violations() map[string]uint64 {
	all := make(map[string]uint64, len(reasons))
	for code, name := range reasons {
		all[name] = b.count.violations[code].Load()
	}
	return all
}

// Sessions returns those for which messages wait or have been lost, the ones
// with most waiting first, at most so many.
func (b *Broker) Sessions(most int) []SessionStats {
	var all []SessionStats
	add := func(st SessionStats) {
		if st.Waiting+st.Dropped+st.Expired > 0 {
			all = append(all, st)
		}
	}
	for _, s := range b.allSessions() {
		o := &s.out
		o.mu.Lock()
		if o.lasts && !o.over {
			st := SessionStats{Client: s.id, User: s.user, Connected: o.c != nil, Sent: o.window.count, Delivered: o.acked}
			if !o.taken {
				st.Away = max(0, b.keeper.clock()-s.left)
			}
			o.report(&st)
			add(st)
		}
		o.mu.Unlock()
	}
	for _, g := range b.allGroups() {
		g.mu.Lock()
		st := SessionStats{Client: g.filter, Connected: g.present()}
		g.report(&st)
		g.mu.Unlock()
		add(st)
	}
	slices.SortFunc(all, func(a, b SessionStats) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.Dropped, a.Dropped), cmp.Compare(a.Client, b.Client))
	})
	return all[:min(len(all), most)]
}

func (k *cursor) report(st *SessionStats) {
	st.Waiting, st.Bytes, st.Dropped, st.Expired = k.pending, k.bytes, k.dropped, k.expired
}

func (b *Broker) allGroups() (all []*group) {
	b.route.Lock()
	defer b.route.Unlock()
	for _, g := range b.route.groups {
		all = append(all, g)
	}
	return all
}
