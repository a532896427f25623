package broker

import (
	"encoding/binary"
	"fmt"
	"time"

	"holdfast/gateway/event"
)

const (
	maxAlias   = 32  // topic aliases that a client may use
	maxInterns = 256 // topic names remembered for a connection
)

// take handles the packets at the start of the buffer: those that are the
// broker's own business as one run, others by handing them to mochi, one at a
// time. It returns when more bytes are needed or mochi has something to read.
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
			return c.handOver(h, b[:h.total()])
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

// own tells the packets that mochi never sees.
func own(kind byte) bool {
	return kind == typePublish || kind == typePubrel || kind == typePingreq
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
	if h.total() > c.b.maxPacket {
		return h, false, &violation{codeTooLarge, "packet larger than the maximum packet size"}
	}
	c.need = h.total()
	return h, len(b) >= h.total(), nil
}

// handOver gives mochi a packet that is safe for it.
func (c *conn) handOver(h header, p []byte) (err error) {
	body := p[h.size:]
	switch h.kind() {
	case typeConnect:
		c.connected = true
	case typeSubscribe, typeUnsubscribe:
		err = checkSubscribe(h.kind(), body, c.v5)
	case typePuback, typePubrec, typePubcomp:
		err = checkAck(body, c.v5)
	case typeDisconnect:
		var reason byte
		reason, err = checkDisconnect(body, c.v5)
		c.bye = err == nil
		c.noWill = err == nil && reason == codeSuccess // [MQTT-3.14.4-3]
	}
	if err == nil {
		c.pass = p
		c.r += len(p)
	}
	return err
}

// takeRun handles a run of whole packets, n of them PUBLISH. All messages go
// to the log in one batch. Messages before a violation count.
func (c *conn) takeRun(run []byte, n int) error {
	var (
		f       = c.newFlight()
		batch   = Batch{Client: c.cl.ID, Gone: c.over}
		release []uint16
		total   int
		pings   int
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
		switch h.kind() {
		case typePublish:
			var size int
			size, bad = c.takePublish(&batch, f, h.first, body)
			total += size
		case typePubrel:
			if bad = checkAck(body, c.v5); bad == nil {
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
	if pings > 0 {
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
		return 0, &violation{codeReceiveMaximum, "more unacknowledged messages than the receive maximum"}
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
	v := &violation{codeNotAuthorized, fmt.Sprintf("user %q may not publish to %s", c.who.user, topic)}
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
			if err := checkTopic(name); err != nil {
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
		return topic, &violation{codeBadAlias, "topic alias out of range"}
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
