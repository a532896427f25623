package broker

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/packets"

	"holdfast/gateway/broker/packet"
)

// subscribe grants subscriptions. They are on disk, if the session lasts,
// before SUBACK says so; retained messages come behind it.
func (c *conn) subscribe(r packet.Subscribe) error {
	s, b := c.session, c.b
	codes := make([]byte, len(r.Subscriptions))
	var fresh []*subscription
	rights := s.rights(b)
	b.route.Lock()
	for i, ask := range r.Subscriptions {
		filter := ask.Filter
		peer, may := introduced(filter), rights.toSubscribe(filter)
		if !may.allowed && !(c.bridge && peer != "") {
			b.say("mqtt subscription refused", c.name(), fmt.Errorf("user %q may not subscribe to %s: %v", c.who.user, filter, may))
			if codes[i] = packet.NotAuthorized; !c.v5 {
				codes[i] = packet.UnspecifiedError
			}
			continue
		}
		if s.out.fullOf(filter, b.limits.Subscriptions) {
			b.say("mqtt subscription refused", c.name(), fmt.Errorf("it would be more than %d", b.limits.Subscriptions))
			if codes[i] = packet.QuotaExceeded; !c.v5 {
				codes[i] = packet.UnspecifiedError
			}
			continue
		}
		o := ask.Options
		if peer != "" {
			o = 0 // which tells it from other brokers
		}
		codes[i] = o & 3
		sub := &subscription{filter: filter, options: o & 0x0f, id: r.SubscriptionID}
		existed := s.out.subscribe(sub)
		if g := b.route.groups[filter]; g != nil {
			g.begin()
		}
		handling := o >> 4 & 3
		if !isShared(filter) && (handling == 0 || handling == 1 && !existed) { // [MQTT-3.3.1-10], [MQTT-3.3.1-11]
			fresh = append(fresh, sub)
		}
	}
	b.route.changed()
	b.route.Unlock()
	debts := s.out.pledge(fresh)
	if err := b.keeper.tell(s); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	c.queue(packet.AppendSuback(nil, r.ID, codes, c.v5))
	for _, ask := range r.Subscriptions {
		if introduced(ask.Filter) != "" {
			c.introduce(ask.Filter)
			c.origin = s.origin()
		}
	}
	s.out.owe(debts)
	return nil
}

// unsubscribe ends subscriptions.
func (c *conn) unsubscribe(r packet.Unsubscribe) error {
	s, b := c.session, c.b
	codes := make([]byte, len(r.Filters))
	b.route.Lock()
	for i, filter := range r.Filters {
		if !s.out.unsubscribe(filter) {
			codes[i] = packet.NoSubscriptionExisted
		}
	}
	b.route.changed()
	b.route.Unlock()
	if err := b.keeper.tell(s); err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	c.queue(packet.AppendUnsuback(nil, r.ID, codes, c.v5))
	return nil
}

// subscribe adds a subscription, or replaces the one with its filter. The
// caller holds the lock of routing.
func (o *outbox) subscribe(sub *subscription) (existed bool) {
	o.mu.Lock()
	old, existed := o.subs[sub.filter]
	if existed {
		sub.since = old.since
	} else {
		sub.since = o.b.positions()
		atomic.AddInt64(&o.b.server.Info.Subscriptions, 1)
	}
	if o.subs == nil {
		o.subs = make(map[string]*subscription)
	}
	o.subs[sub.filter] = sub
	o.refilter()
	o.mu.Unlock()
	for _, f := range treeFilters(sub.filter) {
		o.b.server.Topics.Subscribe(o.s.id, packets.Subscription{Filter: f})
	}
	if isShared(sub.filter) {
		o.b.share(o, sub)
	}
	return existed
}

// fullOf reports whether there are so many subscriptions that one with this
// filter would be one too many.
func (o *outbox) fullOf(filter string, most int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, existed := o.subs[filter]
	return !existed && len(o.subs) >= most
}

// unsubscribe removes one; false if there was none. The caller holds the lock
// of routing.
func (o *outbox) unsubscribe(filter string) bool {
	o.mu.Lock()
	_, ok := o.subs[filter]
	delete(o.subs, filter)
	o.refilter()
	keep := map[string]bool{}
	if len(treeFilters(filter)) > 1 {
		for other := range o.subs {
			for _, f := range treeFilters(other) {
				keep[f] = true
			}
		}
	} else if strings.HasSuffix(filter, "+") {
		_, keep[filter] = o.subs[filter+"/#"]
	}
	o.mu.Unlock()
	if !ok {
		return false
	}
	atomic.AddInt64(&o.b.server.Info.Subscriptions, -1)
	for _, f := range treeFilters(filter) {
		if !keep[f] {
			o.b.server.Topics.Unsubscribe(f, o.s.id)
		}
	}
	if isShared(filter) {
		o.b.unshare(o, filter)
	}
	return true
}

// unsubscribeAll removes all. The caller holds the lock of routing.
func (o *outbox) unsubscribeAll() {
	o.mu.Lock()
	filters := make([]string, 0, len(o.subs))
	for f := range o.subs {
		filters = append(filters, f)
	}
	o.mu.Unlock()
	for _, f := range filters {
		o.unsubscribe(f)
	}
	if len(filters) > 0 {
		o.b.route.changed()
	}
}

// treeFilters are the entries of mochi's tree that find a subscription: it
// does not know that +/# matches the level above as well (MQTT 5, 4.7.1.2).
func treeFilters(filter string) []string {
	if (filter == "+/#" || strings.HasSuffix(filter, "/+/#")) && !isShared(filter) {
		return []string{filter, filter[:len(filter)-2]}
	}
	return []string{filter}
}

// refilter tells scanners what the subscriptions are. The caller holds o.mu.
func (o *outbox) refilter() {
	filters := make([]string, 0, len(o.subs))
	o.peer = ""
	for f := range o.subs {
		if !isShared(f) {
			filters = append(filters, f)
		}
		if name := introduced(f); name != "" {
			o.peer = name
		}
	}
	o.filters.Store(&filters)
	o.changes++
	o.dirty = true
}
