package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"holdfast/gateway/broker/packet"
)

// newServer returns mochi with the limits that it has.
func newServer(o Options) *mqtt.Server {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumClients = int64(o.MaxClients)
	limits.MaximumPacketSize = uint32(o.MaxPacket)
	limits.ReceiveMaximum = uint16(o.ReceiveMaximum)
	limits.MaximumSessionExpiryInterval = uint32(o.Sessions.Expiry / time.Second)
	limits.MaximumMessageExpiryInterval = 0 // or retained messages vanish after a day
	limits.TopicAliasMaximum = maxAlias
	limits.MaximumClientWritesPending = 1 // nothing goes this way
	limits.Compatibilities.NoInheritedPropertiesOnAck = true
	return mqtt.New(&mqtt.Options{
		Capabilities:             limits,
		ClientNetReadBufferSize:  16,      // conn buffers already
		ClientNetWriteBufferSize: 1,       // and so it does here
		SysTopicResendInterval:   1 << 30, // the broker tells itself, see sys
		// mochi logs whole packets, passwords among them.
		Logger: slog.New(slog.DiscardHandler),
	})
}

// hook ties mochi to the broker. mochi does the handshake: it decodes and
// judges CONNECT, and answers with CONNACK. Then it is made to let go of the
// connection, for two reasons. Its client takes some 10 KiB and a goroutine of
// its own, and thousands of quiet devices have to fit into a small machine.
// And its sessions lose and shuffle messages, block publishers, and have one
// set of packet identifiers for both directions, so that nothing about
// messages and subscriptions can be left to it but the topic tree.
//
// Hooks with a client run on the goroutine of its connection unless noted.
type hook struct {
	mqtt.HookBase
	b *Broker
}

func (h *hook) ID() string { return "holdfast" }

func (h *hook) Provides(what byte) bool {
	switch what {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish,
		mqtt.OnSessionEstablished, mqtt.OnPacketEncode:
		return true
	}
	return false
}

// plain returns the CONNECT for mochi, without will, user and password: mochi
// refuses what is allowed (a will without a payload, an empty password) and
// allows what is not.
func plain(c *packet.Connect) []byte {
	level, flags := byte(4), byte(0)
	if c.V5 {
		level = 5
	}
	if c.Clean {
		flags = 2 // Clean Start
	}
	b := append(packet.AppendString(nil, "MQTT"), level, flags)
	b = binary.BigEndian.AppendUint16(b, c.KeepAlive)
	if c.V5 {
		b = append(packet.AppendVarint(b, len(c.Properties)), c.Properties...)
	}
	b = packet.AppendString(b, c.ClientID)
	return append(packet.AppendVarint([]byte{packet.TypeConnect << 4}, len(b)), b...)
}

// OnConnect decides who may connect, with which will, and whose session that
// is.
func (h *hook) OnConnect(cl *mqtt.Client, _ packets.Packet) error {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return errors.New("connection of another kind")
	}
	hello := c.hello
	c.hello = nil
	c.window = maxWindow
	if n := int(cl.Properties.Props.ReceiveMaximum); n > 0 {
		c.window = min(n, maxWindow)
	}
	c.limit = int(min(cl.Properties.Props.MaximumPacketSize, math.MaxInt32))
	c.id = cl.ID
	c.aliasMax = int(cl.Properties.Props.TopicAliasMaximum)
	c.keepAliveSecs = cl.State.Keepalive
	cl.Properties.Will = mqtt.Will{} // the broker publishes it, through the log
	a := h.b.access.Load()
	who, ok, err := a.identify(c, hello.HasUserName, hello.UserName, hello.Password)
	if !ok {
		if err == nil {
			err = fmt.Errorf("user name %q with a wrong password, or none", hello.UserName)
		}
		h.b.say("mqtt connection refused", c.host(), err) // anybody can make up client ids
		return h.reject(cl, packets.ErrBadUsernameOrPassword)
	}
	c.who = who
	if w := hello.Will; w != nil {
		if may := newRights(a, who.user, cl.ID).toPublish(w.Topic); !may.allowed {
			h.b.count.refused.Add(1)
			h.b.say("mqtt will refused", c.name(), fmt.Errorf("user %q may not publish to %s: %v", who.user, w.Topic, may))
			return h.reject(cl, packets.ErrNotAuthorized)
		}
		c.will = newWill(cl.ID, w)
	}
	c.expiry = cl.Properties.Props.SessionExpiryInterval
	c.ends = c.expiry == 0
	if !c.v5 {
		c.ends = hello.Clean
	}
	if c.prior, err = h.b.attach(c, cl.ID, hello.Clean); err != nil {
		h.b.say("mqtt connection refused", c.name(), err)
		code := packets.ErrNotAuthorized
		switch {
		case errors.Is(err, errTaken):
			code = packets.ErrClientIdentifierNotValid
		case errors.Is(err, errSessions):
			code = packets.ErrQuotaExceeded
		}
		return h.reject(cl, code)
	}
	if err := h.b.keeper.tell(c.session); err != nil {
		h.b.say("mqtt connection refused", c.name(), err)
		return h.reject(cl, packets.ErrServerUnavailable)
	}
	if c.hungUp() { // while that was written: it was never accepted, and leaves no will
		c.noWill = true
		return net.ErrClosed
	}
	return nil
}

func (h *hook) reject(cl *mqtt.Client, code packets.Code) error {
	if err := h.b.server.SendConnack(cl, code, false, nil); err != nil {
		return err
	}
	return code
}

// OnConnectAuthenticate runs after OnConnect, which has decided.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	c, ok := cl.Net.Conn.(*conn)
	return ok && c.session != nil
}

// OnSessionEstablish runs before mochi looks for a session of its own. It has
// none to find: under the client's id it could find a connection that has come
// after this one, and would end that.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	c := cl.Net.Conn.(*conn)
	cl.ID = strconv.FormatUint(h.b.visits.Add(1), 10)
	c.visit = cl.ID
	c.succeed()
}

// OnSessionEstablished runs when CONNACK has been sent. mochi takes its client
// for closed from then on, and leaves.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	c := cl.Net.Conn.(*conn)
	c.mu.Lock()
	c.established = true
	c.mu.Unlock()
	cl.Stop(nil)
}

// succeed makes sure that the client's earlier connection ends.
func (c *conn) succeed() {
	if c.prior != nil {
		c.prior.disconnect(packet.SessionTakenOver) // [MQTT-3.1.4-3]
		c.prior = nil
	}
}

// OnPacketEncode completes mochi's CONNACK. Also called by other goroutines.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type != packets.Connack {
		return pk
	}
	if c, ok := cl.Net.Conn.(*conn); ok && pk.ReasonCode == packet.Success {
		pk.SessionPresent = c.present
	}
	switch v5 := cl.Properties.ProtocolVersion == 5; {
	case v5 && pk.ReasonCode < packet.UnspecifiedError:
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
	case packets.ErrServerBusy.Code, packets.ErrServerUnavailable.Code, packets.ErrQuotaExceeded.Code:
		return packets.Err3ServerUnavailable.Code
	}
	if code >= packet.UnspecifiedError {
		return packets.Err3NotAuthorized.Code
	}
	return code
}
