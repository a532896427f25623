package broker

import (
	"bytes"
	"fmt"
	"time"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

const (
	maxAlias   = 32  // topic aliases that a client may use
	maxInterns = 256 // topic names remembered for a connection
)

// take handles the packets at the start of the buffer: those about messages
// in runs, others one at a time. It returns when more bytes are needed, mochi
// has a CONNECT to read, or the client has taken its leave.
func (c *conn) take() error {
	c.need = 0
	for c.r < c.w {
		b := c.buf[c.r:c.w]
		h, whole, err := c.frame(b)
		if err != nil || !whole {
			return err
		}
		c.heard = true
		if !own(h.Type()) {
			p := b[:h.Len()]
			c.r += len(p)
			c.b.count.packetsIn.Add(1)
			if err := c.handle(h, p); err != nil || len(c.pass) > 0 || c.bye {
				return err
			}
			continue
		}
		end, n := h.Len(), 0
		for at := 0; ; at, end = end, end+h.Len() {
			if b[at]>>4 == packet.TypePublish {
				n++
			}
			if h, whole, err = c.frame(b[end:]); !whole || err != nil || !own(h.Type()) {
				break // the next call finds the same, once these are taken
			}
		}
		c.r += end
		if err := c.takeRun(b[:end], n); err != nil {
			return err
		}
	}
	return nil
}

// own tells the packets that are handled in runs.
func own(kind byte) bool {
	switch kind {
	case packet.TypePublish, packet.TypePuback, packet.TypePubrec, packet.TypePubrel, packet.TypePubcomp, packet.TypePingreq:
		return true
	}
	return false
}

// frame measures the packet at the start of b and checks what its header
// tells, before memory is reserved for it.
func (c *conn) frame(b []byte) (h packet.Header, whole bool, err error) {
	if len(b) > 0 {
		switch first := b[0]; {
		case c.connected:
			err = packet.CheckFirst(first)
		case first != packet.TypeConnect<<4:
			err = &packet.Violation{Reason: packet.ProtocolError, What: "the first packet is not a CONNECT"} // [MQTT-3.1.0-1]
		}
		if err != nil {
			return h, false, err
		}
	}
	h, ok, err := packet.ReadHeader(b)
	if err != nil || !ok {
		return h, false, err
	}
	if c.v5 {
		if err := h.CheckLength(); err != nil {
			return h, false, err
		}
	}
	if h.Len() > c.b.maxPacket {
		return h, false, &packet.Violation{Reason: packet.PacketTooLarge, What: "packet larger than the maximum packet size"}
	}
	c.need = h.Len()
	return h, len(b) >= h.Len(), nil
}

// handle handles a packet that has nothing to do with messages.
func (c *conn) handle(h packet.Header, p []byte) error {
	body := p[h.Size:]
	switch h.Type() {
	case packet.TypeConnect:
		var err error
		c.pass, err = c.takeConnect(h, body)
		return err
	case packet.TypeSubscribe:
		r, err := c.b.wire.ParseSubscribe(body, c.v5)
		if err != nil {
			return err
		}
		return c.subscribe(r)
	case packet.TypeUnsubscribe:
		r, err := c.b.wire.ParseUnsubscribe(body, c.v5)
		if err != nil {
			return err
		}
		return c.unsubscribe(r)
	case packet.TypeDisconnect:
		d, err := packet.ParseDisconnect(body, c.v5)
		if err != nil {
			return err
		}
		if d.HasSessionExpiry {
			if d.SessionExpiry > 0 && c.expiry == 0 { // [MQTT-3.14.2-2]
				return &packet.Violation{Reason: packet.ProtocolError, What: "DISCONNECT with a session expiry interval that CONNECT did not have"}
			}
			c.expiry, c.ends = d.SessionExpiry, d.SessionExpiry == 0
		}
		c.bye, c.noWill = true, d.Reason == packet.Success // [MQTT-3.14.4-3]
	}
	return nil
}

// takeConnect checks a CONNECT and returns the one that mochi gets.
func (c *conn) takeConnect(h packet.Header, body []byte) ([]byte, error) {
	hello, err := c.b.wire.ParseConnect(bytes.Clone(body)) // the will outlives the buffer
	c.v5 = hello.V5
	if err == nil && c.v5 {
		err = h.CheckLength()
	}
	if err != nil {
		return nil, err
	}
	c.connected, c.hello, c.bridge = true, &hello, hello.Bridge
	return plain(&hello), nil
}

// takeRun handles a run of whole packets, n of them PUBLISH. All messages go
// to the log in one batch. Messages before a violation count.
func (c *conn) takeRun(run []byte, n int) error {
	var (
		f       = c.newFlight()
		batch   = Batch{Client: c.id, Gone: c.over}
		release []uint16
		settled []packet.Ack
		total   int
		pings   int
		packets uint64
		bad     error
		now     = time.Now()
	)
	if n > 0 {
		batch.Events = make([]event.Event, 0, n)
		f.quota = c.quota()
		c.judge()
	}
	for len(run) > 0 && bad == nil {
		h, _, _ := packet.ReadHeader(run)
		body := run[h.Size:h.Len()]
		run = run[h.Len():]
		packets++
		switch h.Type() {
		case packet.TypePublish:
			var size int
			size, bad = c.takePublish(&batch, f, h.First, body)
			total += size
		case packet.TypePuback, packet.TypePubrec, packet.TypePubcomp:
			var a packet.Ack
			if a, bad = packet.ParseAck(h.Type(), body, c.v5); bad == nil {
				settled = append(settled, a)
			}
		case packet.TypePubrel:
			var a packet.Ack
			if a, bad = packet.ParseAck(packet.TypePubrel, body, c.v5); bad == nil {
				release = append(release, a.ID)
			}
		case packet.TypePingreq:
			if len(body) > 0 {
				bad = &packet.Violation{Reason: packet.MalformedPacket, What: "PINGREQ with a body"}
			} else {
				pings++
			}
		}
	}
	gather(batch.Events, total, event.At(now))
	c.b.count.packetsIn.Add(packets)
	c.b.count.payloadIn.Add(uint64(total))
	if len(settled) > 0 {
		c.session.out.acknowledged(c, settled)
	}
	if pings > 0 { // now, for what follows may wait for room
		c.pong(pings)
	}
	if err := c.emit(batch, f, now); err != nil {
		return err
	}
	if len(release) > 0 {
		if err := c.release(release); err != nil {
			return err
		}
	}
	return bad
}

// gather moves payloads out of the read buffer into memory that belongs to
// the batch.
func gather(events []event.Event, total int, now event.Time) {
	arena := make([]byte, 0, total)
	keep := func(b []byte) []byte {
		at := len(arena)
		arena = append(arena, b...)
		return arena[at:len(arena):len(arena)]
	}
	for i := range events {
		e := &events[i]
		e.Received = now
		e.Payload = keep(e.Payload)
		if e.Properties != nil && e.Properties.CorrelationData != nil {
			e.Properties.CorrelationData = keep(e.Properties.CorrelationData)
		}
	}
}

// takePublish adds one PUBLISH to the batch and what it is to be answered to
// the flight, and returns the bytes that gather has to move.
func (c *conn) takePublish(batch *Batch, f *flight, first byte, body []byte) (size int, err error) {
	p, err := packet.ParsePublish(first, body, c.v5)
	if err != nil {
		return 0, err
	}
	var props packet.Properties
	if len(p.Properties) > 0 {
		if props, err = packet.ParseProperties(p.Properties, packet.PublishProperties); err != nil {
			return 0, err
		}
	}
	topic, err := c.topic(p.Topic, &props)
	if err != nil {
		return 0, err
	}
	if p.QoS > 0 && topic.allowed && f.pending >= f.quota { // [MQTT-3.3.4-9]
		return 0, &packet.Violation{Reason: packet.ReceiveMaximumExceeded, What: "more unacknowledged messages than the receive maximum"}
	}
	if p.QoS == 2 && !c.session.take(c, p.ID, p.Dup, topic.allowed) {
		c.b.count.duplicates.Add(1)
		f.answer(p, packet.Success, -1)
		return 0, nil
	}
	if !topic.allowed {
		return 0, c.deny(f, p, topic.name)
	}
	f.answer(p, packet.Success, len(batch.Events))
	switch p.QoS {
	case 1:
		f.pending++
		f.once++
	case 2:
		f.pending++
		batch.Hold = append(batch.Hold, p.ID)
	}
	batch.Events = append(batch.Events, event.Event{
		Topic:   topic.name,
		Source:  "mqtt",
		Client:  batch.Client,
		Payload: p.Payload,
		QoS:     p.QoS,
		Retain:  p.Retain,
		Cause:   c.origin,
	})
	props.Apply(&batch.Events[len(batch.Events)-1])
	return len(p.Payload) + len(props.Correlation), nil
}

// topicName is the name of a topic, and whether the client may publish to it.
type topicName struct {
	name    string
	allowed bool
}

// judge sees to it that topics are judged by what the client may do now.
func (c *conn) judge() {
	r := c.session.rights(c.b)
	if r == c.rights {
		return
	}
	c.rights, c.topics = r, nil
	for i, a := range c.aliases {
		c.aliases[i].allowed = a.name != "" && r.mayPublish(a.name)
	}
}

// deny answers a PUBLISH that the client is not allowed. 3.1.1 has no answer
// but the end of the connection.
func (c *conn) deny(f *flight, p packet.Publish, topic string) error {
	v := &packet.Violation{Reason: packet.NotAuthorized, Denied: true, What: fmt.Sprintf("user %q may not publish to %s: %v", c.who.user, topic, c.rights.toPublish(topic))}
	if topic[0] == '$' {
		v.Reason, v.What = packet.TopicNameInvalid, fmt.Sprintf("topic %s: those that begin with $ are the broker's", topic)
	}
	c.b.say("mqtt message refused", c.name(), v)
	if !c.v5 {
		return v
	}
	c.b.count.refused.Add(1)
	f.answer(p, v.Reason, -1)
	return nil
}

// topic returns the topic of a PUBLISH, checked, and sets or resolves the
// topic alias.
func (c *conn) topic(name []byte, props *packet.Properties) (topic topicName, err error) {
	if len(name) > 0 {
		var known bool
		if topic, known = c.topics[string(name)]; !known {
			if err := c.b.wire.CheckTopic(name); err != nil {
				return topic, err
			}
			topic.name = string(name)
			topic.allowed = c.rights.mayPublish(topic.name)
			if c.topics == nil || len(c.topics) >= maxInterns {
				c.topics = make(map[string]topicName)
			}
			if len(name) <= 1024 {
				c.topics[topic.name] = topic
			}
		}
	}
	if !props.Has(packet.PropTopicAlias) {
		if topic.name == "" {
			return topic, &packet.Violation{Reason: packet.ProtocolError, What: "PUBLISH without a topic"}
		}
		return topic, nil
	}
	if props.TopicAlias == 0 || props.TopicAlias > maxAlias { // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
		return topic, &packet.Violation{Reason: packet.TopicAliasInvalid, What: "topic alias out of range"}
	}
	if c.aliases == nil {
		c.aliases = make([]topicName, maxAlias+1)
	}
	if topic.name != "" {
		c.aliases[props.TopicAlias] = topic
		return topic, nil
	}
	if topic = c.aliases[props.TopicAlias]; topic.name == "" {
		return topic, &packet.Violation{Reason: packet.ProtocolError, What: "PUBLISH with a topic alias that was not set"}
	}
	return topic, nil
}
