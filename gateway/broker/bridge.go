package broker

import (
	"strings"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// A gateway that connects to another one, to publish or to subscribe there,
// says so: its CONNECT has the bit set that Mosquitto's bridges set too, and
// it subscribes to introductions with its name behind. It is told the name of
// this gateway there. Events that it publishes then carry where they came
// from, and neither these nor those that this gateway has taken in from it go
// back. So two gateways that are bridged both ways pass nothing round.
const introductions = "$SYS/holdfast/bridge/"

// introduced returns the gateway that a filter introduces; "" if it does not.
func introduced(filter string) string {
	name, ok := strings.CutPrefix(filter, introductions)
	if !ok || strings.ContainsAny(name, "+#/") {
		return ""
	}
	return name
}

// introduce tells a gateway the name of this one.
func (c *conn) introduce(filter string) {
	e := event.Event{Topic: filter, Payload: []byte(c.b.opt.Gateway)}
	p, _ := packet.AppendPublish(nil, packet.Delivery{Event: &e}, c.v5, 0)
	c.queue(p)
}

// origin returns the cause of what the session publishes: nothing that is
// known, but for a gateway.
func (s *session) origin() *event.ID {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.peer == "" {
		return nil
	}
	return &event.ID{Gateway: s.out.peer}
}
