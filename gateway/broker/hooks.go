package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"holdfast/gateway/event"
)

// sessionExpiry is the longest that a session is kept without its client.
const sessionExpiry = 7 * 24 * time.Hour

// newServer returns mochi with the limits that it has.
func newServer(o Options) *mqtt.Server {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumClients = int64(o.MaxClients)
	limits.MaximumPacketSize = uint32(o.MaxPacket)
	limits.MaximumInflight = uint16(o.MaxInflight)
	limits.ReceiveMaximum = uint16(o.ReceiveMaximum)
	limits.MaximumSessionExpiryInterval = uint32(sessionExpiry / time.Second)
	limits.MaximumMessageExpiryInterval = 0 // or retained messages vanish after a day
	limits.TopicAliasMaximum = maxAlias
	limits.MaximumClientWritesPending = 64 // $SYS alone takes mochi's own way
	limits.Compatibilities.NoInheritedPropertiesOnAck = true
	return mqtt.New(&mqtt.Options{
		Capabilities:             limits,
		ClientNetReadBufferSize:  64,      // conn buffers already
		ClientNetWriteBufferSize: 1,       // and so it does here
		SysTopicResendInterval:   1 << 30, // the broker tells itself, see sys
		// mochi logs whole packets, passwords among them.
		Logger: slog.New(slog.DiscardHandler),
	})
}

// hook ties mochi's life cycle to the broker's. Hooks with a client run on
// the goroutine of its connection unless noted.
type hook struct {
	mqtt.HookBase
	b *Broker
}

func (h *hook) ID() string { return "holdfast" }

func (h *hook) Provides(what byte) bool {
	switch what {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck,
		mqtt.OnSessionEstablish, mqtt.OnSessionEstablished,
		mqtt.OnPacketEncode, mqtt.OnPacketSent, mqtt.OnPacketProcessed,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribed, mqtt.OnClientExpired,
		mqtt.OnQosComplete, mqtt.OnQosDropped:
		return true
	}
	return false
}

// OnConnect decides who may connect, with which will, and whose session that
// is.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return errors.New("connection of another kind")
	}
	c.hello.complete(&pk.Connect)
	c.hello = nil
	c.cl = cl
	c.window = maxWindow
	if n := int(cl.Properties.Props.ReceiveMaximum); n > 0 {
		c.window = min(n, maxWindow)
	}
	c.limit = int(min(cl.Properties.Props.MaximumPacketSize, math.MaxInt32))
	// mochi's way of honouring the client's receive maximum deadlocks, so the
	// outbox does that. Its topic aliases go wrong when a message is dropped.
	cl.Properties.Props.ReceiveMaximum = 0
	cl.State.Inflight.ResetSendQuota(0)
	cl.Properties.Props.TopicAliasMaximum = 0
	cl.State.TopicAliases.Outbound = mqtt.NewOutboundTopicAliases(0)
	cl.Properties.Will = mqtt.Will{} // the broker publishes it, through the log
	a := h.b.access.Load()
	who, ok, err := a.identify(c, pk.Connect.UsernameFlag, string(pk.Connect.Username), pk.Connect.Password)
	if !ok {
		if err == nil {
			err = fmt.Errorf("user name %q with a wrong password, or none", pk.Connect.Username)
		}
		h.b.say("mqtt connection refused", c.host(), err) // anybody can make up client ids
		return h.reject(cl, packets.ErrBadUsernameOrPassword)
	}
	c.who = who
	if pk.Connect.WillFlag {
		topic := pk.Connect.WillTopic
		if !newRights(a, who.user, cl.ID).mayPublish(topic) {
			h.b.count.refused.Add(1)
			h.b.say("mqtt will refused", c.name(), fmt.Errorf("user %q may not publish to %s", who.user, topic))
			return h.reject(cl, packets.ErrNotAuthorized)
		}
		c.will = newWill(cl.ID, &pk)
	}
	c.ends = pk.Connect.Clean
	if c.v5 {
		c.ends = cl.Properties.Props.SessionExpiryInterval == 0
	}
	if c.prior, err = h.b.attach(c, cl.ID, pk.Connect.Clean); err != nil {
		h.b.say("mqtt connection refused", c.name(), err)
		code := packets.ErrNotAuthorized
		if errors.Is(err, errTaken) {
			code = packets.ErrClientIdentifierNotValid
		}
		return h.reject(cl, code)
	}
	return nil
}

func (h *hook) reject(cl *mqtt.Client, code packets.Code) error {
	if err := h.b.server.SendConnack(cl, code, false, nil); err != nil {
		return err
	}
	return code
}

// newWill copies the will out of a CONNECT.
func newWill(client string, pk *packets.Packet) *will {
	p := &pk.Connect.WillProperties
	e := event.Event{
		Topic:       pk.Connect.WillTopic,
		Source:      "mqtt",
		Client:      client,
		Payload:     pk.Connect.WillPayload,
		QoS:         pk.Connect.WillQos,
		Retain:      pk.Connect.WillRetain,
		ContentType: p.ContentType,
	}
	if p.PayloadFormat == 1 || p.MessageExpiryInterval > 0 || p.ResponseTopic != "" ||
		len(p.CorrelationData) > 0 || len(p.User) > 0 {
		e.Properties = &event.Properties{
			Expiry:          p.MessageExpiryInterval,
			HasExpiry:       p.MessageExpiryInterval > 0,
			UTF8:            p.PayloadFormat == 1,
			ResponseTopic:   p.ResponseTopic,
			CorrelationData: p.CorrelationData,
		}
		for _, u := range p.User {
			e.Properties.User = append(e.Properties.User, event.Property{Name: u.Key, Value: u.Val})
		}
	}
	return &will{event: e, delay: time.Duration(p.WillDelayInterval) * time.Second}
}

// OnConnectAuthenticate runs after OnConnect, which has decided.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	c, ok := cl.Net.Conn.(*conn)
	return ok && c.session != nil
}

// OnACLCheck decides on subscriptions, and on messages that mochi itself
// publishes. What clients publish is not seen here.
func (h *hook) OnACLCheck(cl *mqtt.Client, filter string, write bool) bool {
	c, ok := cl.Net.Conn.(*conn)
	if write || !ok || c.session == nil {
		return false
	}
	for i := range c.granting {
		if g := &c.granting[i]; g.sub.Filter == filter && !g.existed {
			if g.over = cl.State.Subscriptions.Len() >= h.b.limits.Subscriptions; g.over {
				h.b.say("mqtt subscription refused", c.name(), fmt.Errorf("it would be more than %d", h.b.limits.Subscriptions))
				return false
			}
		}
	}
	if c.session.rights(h.b).maySubscribe(filter) {
		return true
	}
	h.b.say("mqtt subscription refused", c.name(), fmt.Errorf("user %q may not subscribe to %s", c.who.user, filter))
	return false
}

// OnSessionEstablish runs before mochi moves an earlier session of the client
// to this connection. Routing stands still until that is done: mochi loses
// messages that are added to a session while it copies it.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	c := cl.Net.Conn.(*conn)
	h.b.route.Lock()
	c.routeHeld = true
	// While mochi ends a session it may have it on its books a moment longer
	// than the broker, which by now may have begun one for another user.
	if old, ok := h.b.server.Clients.Get(cl.ID); ok {
		if before, ok := old.Net.Conn.(*conn); !ok || before.who.user != c.who.user {
			h.b.evict(cl.ID)
		}
	}
}

// OnPacketSent runs before mochi repeats what an earlier connection left
// unacknowledged, which the outbox does better.
func (h *hook) OnPacketSent(cl *mqtt.Client, pk packets.Packet, _ []byte) {
	if pk.FixedHeader.Type != packets.Connack {
		return
	}
	if c, ok := cl.Net.Conn.(*conn); ok && c.routeHeld {
		c.left = takeAll(cl)
	}
}

// OnSessionEstablished runs when CONNACK has been sent. It ends the
// standstill.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	c := cl.Net.Conn.(*conn)
	c.session.outbox.resume(cl, c, c.left)
	c.left, c.routeHeld = nil, false
	h.b.route.Unlock()
	c.succeed()
	c.serve(cl.State.Keepalive)
}

// succeed makes sure that the client's earlier connection ends. mochi has done
// that, unless it had lost sight of it (see repair).
func (c *conn) succeed() {
	if c.prior != nil {
		c.prior.disconnect(codeTakenOver) // [MQTT-3.1.4-3]
		c.prior = nil
	}
}

// OnQosComplete runs when a subscriber has acknowledged a message.
func (h *hook) OnQosComplete(cl *mqtt.Client, pk packets.Packet) { h.settled(cl, pk.PacketID) }

// OnQosDropped runs when it has refused one, and on mochi's own goroutine
// when one has expired.
func (h *hook) OnQosDropped(cl *mqtt.Client, pk packets.Packet) { h.settled(cl, pk.PacketID) }

func (h *hook) settled(cl *mqtt.Client, id uint16) {
	if c, ok := cl.Net.Conn.(*conn); ok && c.session != nil {
		c.session.outbox.settle(cl, c, id)
	}
}

// OnPacketEncode completes mochi's CONNACK. Also called by other goroutines.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type != packets.Connack {
		return pk
	}
	switch v5 := cl.Properties.ProtocolVersion == 5; {
	case v5 && pk.ReasonCode < codeUnspecified:
		pk.Properties.TopicAliasMaximum = maxAlias
		pk.Properties.MaximumPacketSize = uint32(h.b.maxPacket)
	case !v5:
		pk.ReasonCode = connackCode(pk.ReasonCode)
	}
	return pk
}

// connackCode returns the code of 3.1.1 (3.2.2.3) for one that mochi took
// from MQTT 5.
func connackCode(code byte) byte {
	switch code {
	case packets.ErrProtocolViolation.Code, packets.ErrUnsupportedProtocolVersion.Code:
		return packets.Err3UnsupportedProtocolVersion.Code
	case packets.ErrUnspecifiedError.Code, packets.ErrClientIdentifierNotValid.Code:
		return packets.Err3ClientIdentifierNotValid.Code
	case packets.ErrServerBusy.Code, packets.ErrServerUnavailable.Code:
		return packets.Err3ServerUnavailable.Code
	}
	if code >= codeUnspecified {
		return packets.Err3NotAuthorized.Code
	}
	return code
}

// grant is a subscription on its way to be granted, as the client asked for it.
type grant struct {
	sub     packets.Subscription
	existed bool
	over    bool // it is one too many
}

// OnSubscribe keeps mochi from sending retained messages: they go the same
// way as live ones, or a subscriber could see an old value after a new one.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := cl.Net.Conn.(*conn)
	c.granting = c.granting[:0]
	for i := range pk.Filters {
		sub := &pk.Filters[i]
		_, existed := cl.State.Subscriptions.Get(sub.Filter)
		c.granting = append(c.granting, grant{sub: *sub, existed: existed})
		sub.RetainHandling = 2
	}
	return pk
}

// OnSubscribed runs when the subscriptions are in the tree, before SUBACK.
func (h *hook) OnSubscribed(cl *mqtt.Client, _ packets.Packet, reasons []byte) {
	c := cl.Net.Conn.(*conn)
	kept := c.granting[:0]
	for i, g := range c.granting {
		if g.over && c.v5 && i < len(reasons) {
			reasons[i] = codeQuota
		}
		if i < len(reasons) && reasons[i] < codeUnspecified {
			kept = append(kept, g)
		}
	}
	c.granting = kept
	h.b.route.changed()
}

// OnPacketProcessed runs after SUBACK.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, err error) {
	if pk.FixedHeader.Type != packets.Subscribe {
		return
	}
	c := cl.Net.Conn.(*conn)
	if err == nil {
		for _, g := range c.granting {
			h.b.sendRetained(c, g)
		}
	}
	c.granting = nil
}

// OnUnsubscribed also runs on other goroutines, at takeover and expiry.
func (h *hook) OnUnsubscribed(*mqtt.Client, packets.Packet) { h.b.route.changed() }

// OnClientExpired runs on mochi's own goroutine when a session has expired.
// mochi would leave its subscriptions in the tree.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	h.b.server.UnsubscribeClient(cl)
	if c, ok := cl.Net.Conn.(*conn); ok && c.session != nil {
		h.b.endSession(c.session)
	}
}

// repair undoes what mochi may do to a client that comes back while its last
// connection ends: the old one can take the new one off the books.
func (b *Broker) repair(c *conn) {
	b.route.Lock()
	defer b.route.Unlock()
	c.mu.Lock()
	live := c.serving && !c.closing
	c.mu.Unlock()
	if now, ok := b.server.Clients.Get(c.session.id); !live || ok && now == c.cl {
		return
	}
	b.server.Clients.Add(c.cl)
	for _, sub := range c.cl.State.Subscriptions.GetAll() {
		b.server.Topics.Subscribe(c.session.id, sub)
	}
	b.route.changed()
}
