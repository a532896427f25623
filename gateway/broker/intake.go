package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

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
		if !own(h.kind()) {
			p := b[:h.total()]
			c.r += len(p)
			c.b.count.packetsIn.Add(1)
			if err := c.handle(h, p); err != nil || len(c.pass) > 0 || c.bye {
				return err
			}
			continue
		}
		end, n := h.total(), 0
		for at := 0; ; at, end = end, end+h.total() {
			if b[at]>>4 == typePublish {
				n++
			}
			if h, whole, err = c.frame(b[end:]); !whole || err != nil || !own(h.kind()) {
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
	case typePublish, typePuback, typePubrec, typePubrel, typePubcomp, typePingreq:
		return true
	}
	return false
}

// frame measures the packet at the start of b and checks what its header
// tells, before memory is reserved for it.
func (c *conn) frame(b []byte) (h header, whole bool, err error) {
	if len(b) > 0 {
		switch first := b[0]; {
		case c.connected:
			err = checkHeader(first, c.v5)
		case first != typeConnect<<4:
			err = protocolError("the first packet is not a CONNECT") // [MQTT-3.1.0-1]
		}
		if err != nil {
			return h, false, err
		}
	}
	h, ok, err := readHeader(b)
	if err != nil || !ok {
		return h, false, err
	}
	if c.v5 && h.padded() {
		return h, false, malformed("remaining length of more bytes than it needs")
	}
	if h.total() > c.b.maxPacket {
		return h, false, &violation{code: codeTooLarge, what: "packet larger than the maximum packet size"}
	}
	c.need = h.total()
	return h, len(b) >= h.total(), nil
}

// handle handles a packet that has nothing to do with messages.
func (c *conn) handle(h header, p []byte) error {
	body := p[h.size:]
	switch h.kind() {
	case typeConnect:
		var err error
		c.pass, err = c.takeConnect(h, body)
		return err
	case typeSubscribe, typeUnsubscribe:
		if err := c.b.limits.checkSubscribe(h.kind(), body, c.v5); err != nil {
			return err
		}
		r, err := parseRequest(h.kind(), body, c.v5)
		if err != nil {
			return err
		}
		if h.kind() == typeSubscribe {
			return c.subscribe(r)
		}
		return c.unsubscribe(r)
	case typeDisconnect:
		reason, err := checkDisconnect(body, c.v5)
		if err != nil {
			return err
		}
		if expiry, ok := disconnectExpiry(body); ok {
			if expiry > 0 && c.expiry == 0 { // [MQTT-3.14.2-2]
				return protocolError("DISCONNECT with a session expiry interval that CONNECT did not have")
			}
			c.expiry, c.ends = expiry, expiry == 0
		}
		c.bye, c.noWill = true, reason == codeSuccess // [MQTT-3.14.4-3]
	}
	return nil
}

// disconnectExpiry returns the session expiry interval of a DISCONNECT that
// has been checked.
func disconnectExpiry(body []byte) (seconds uint32, ok bool) {
	if len(body) < 2 {
		return 0, false
	}
	props, _, err := cutProperties(body[1:])
	for err == nil && len(props) > 0 {
		switch id := props[0]; id {
		case propSessionExpiry:
			return binary.BigEndian.Uint32(props[1:]), true
		case propUser:
			props = skipText(skipText(props[1:]))
		default:
			props = skipText(props[1:])
		}
	}
	return 0, false
}

// takeConnect checks a CONNECT and returns the one that mochi gets.
func (c *conn) takeConnect(h header, body []byte) (plain []byte, err error) {
	hello, err := c.b.limits.parseConnect(bytes.Clone(body)) // the will outlives the buffer
	c.v5 = hello.v5
	switch {
	case err != nil:
		return nil, err
	case c.v5 && h.padded():
		return nil, malformed("remaining length of more bytes than it needs")
	}
	c.connected, c.hello, c.bridge = true, &hello, hello.bridge
	return hello.plain(), nil
}

// takeRun handles a run of whole packets, n of them PUBLISH. All messages go
// to the log in one batch. Messages before a violation count.
func (c *conn) takeRun(run []byte, n int) error {
	var (
		f       = c.newFlight()
		batch   = Batch{Client: c.id, Gone: c.over}
		release []uint16
		settled []ack
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
		h, _, _ := readHeader(run)
		body := run[h.size:h.total()]
		run = run[h.total():]
		packets++
		switch h.kind() {
		case typePublish:
			var size int
			size, bad = c.takePublish(&batch, f, h.first, body)
			total += size
		case typePuback, typePubrec, typePubcomp:
			if bad = checkAck(h.kind(), body, c.v5); bad == nil {
				a := ack{kind: h.kind(), id: binary.BigEndian.Uint16(body)}
				if len(body) > 2 {
					a.reason = body[2]
				}
				settled = append(settled, a)
			}
		case typePubrel:
			if bad = checkAck(typePubrel, body, c.v5); bad == nil {
				release = append(release, binary.BigEndian.Uint16(body))
			}
		case typePingreq:
			if len(body) > 0 {
				bad = malformed("PINGREQ with a body")
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
	p, err := parsePublish(first, body, c.v5)
	if err != nil {
		return 0, err
	}
	var props properties
	if len(p.props) > 0 {
		if props, err = parseProperties(p.props, publishProps); err != nil {
			return 0, err
		}
	}
	topic, err := c.topic(p.topic, &props)
	if err != nil {
		return 0, err
	}
	if p.qos > 0 && topic.allowed && f.pending >= f.quota { // [MQTT-3.3.4-9]
		return 0, &violation{code: codeReceiveMaximum, what: "more unacknowledged messages than the receive maximum"}
	}
	if p.qos == 2 && !c.session.take(c, p.id, p.dup, topic.allowed) {
		c.b.count.duplicates.Add(1)
		f.answer(p, codeSuccess, -1)
		return 0, nil
	}
	if !topic.allowed {
		return 0, c.deny(f, p, topic.name)
	}
	f.answer(p, codeSuccess, len(batch.Events))
	switch p.qos {
	case 1:
		f.pending++
		f.once++
	case 2:
		f.pending++
		batch.Hold = append(batch.Hold, p.id)
	}
	batch.Events = append(batch.Events, event.Event{
		Topic:   topic.name,
		Source:  "mqtt",
		Client:  batch.Client,
		Payload: p.payload,
		QoS:     p.qos,
		Retain:  p.retain,
		Cause:   c.origin,
	})
	size = len(p.payload)
	if props.seen&^(1<<propTopicAlias) != 0 {
		props.moveTo(&batch.Events[len(batch.Events)-1])
		size += len(props.correlation)
	}
	return size, nil
}

// moveTo sets the properties of a PUBLISH in its event.
func (p *properties) moveTo(e *event.Event) {
	e.ContentType = p.contentType
	for _, u := range p.user {
		if u.Name == "traceparent" {
			e.Trace = u.Value
		}
	}
	if p.seen&^(1<<propTopicAlias|1<<propContentType) == 0 {
		return
	}
	e.Properties = &event.Properties{
		Expiry:          p.expiry,
		HasExpiry:       p.has(propExpiry),
		UTF8:            p.format == 1,
		ResponseTopic:   p.response,
		CorrelationData: p.correlation,
		User:            p.user,
	}
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
func (c *conn) deny(f *flight, p publish, topic string) error {
	v := &violation{code: codeNotAuthorized, denied: true, what: fmt.Sprintf("user %q may not publish to %s: %v", c.who.user, topic, c.rights.toPublish(topic))}
	if topic[0] == '$' {
		v.code, v.what = codeBadTopic, fmt.Sprintf("topic %s: those that begin with $ are the broker's", topic)
	}
	c.b.say("mqtt message refused", c.name(), v)
	if !c.v5 {
		return v
	}
	c.b.count.refused.Add(1)
	f.answer(p, v.code, -1)
	return nil
}

// topic returns the topic of a PUBLISH, checked, and sets or resolves the
// topic alias.
func (c *conn) topic(name []byte, props *properties) (topic topicName, err error) {
	if len(name) > 0 {
		var known bool
		if topic, known = c.topics[string(name)]; !known {
			if err := c.b.limits.checkTopic(name); err != nil {
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
	if !props.has(propTopicAlias) {
		if topic.name == "" {
			return topic, protocolError("PUBLISH without a topic")
		}
		return topic, nil
	}
	if props.alias == 0 || props.alias > maxAlias { // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
		return topic, &violation{code: codeBadAlias, what: "topic alias out of range"}
	}
	if c.aliases == nil {
		c.aliases = make([]topicName, maxAlias+1)
	}
	if topic.name != "" {
		c.aliases[props.alias] = topic
		return topic, nil
	}
	if topic = c.aliases[props.alias]; topic.name == "" {
		return topic, protocolError("PUBLISH with a topic alias that was not set")
	}
	return topic, nil
}
