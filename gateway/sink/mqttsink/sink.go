package mqttsink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	paho "github.com/eclipse/paho.mqtt.golang"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/gateway/forward"
)

// Kind is the mqtt sink and its downlink.
var Kind = forward.Kind{
	Name: "mqtt",
	Doc:  "Publishes to another MQTT broker; a PUBACK for every event means that it has them. Can take in messages from there.",
	Sample: `url: ssl://broker.example.com:8883   # or tcp://, ws://, wss://
client_id: "holdfast-{gateway}-{destination}"
username: plant-7
password: change-me     # better ${MQTT_PASSWORD}, or password_file
topic: "{topic}"        # or with {gateway}, {stream}, as in "site/{gateway}/{topic}"
qos: 1                  # 0 promises nothing
retain: never           # or keep, always
payload: raw            # or item: a JSON object with identity, topic and times
max_inflight: 100       # messages without acknowledgement
bridge: true            # a gateway on the far side learns our name, so that nothing goes round
tls:
  ca: /etc/holdfast/ca.pem
status:                 # retained, offline also as the will
  topic: "holdfast/{gateway}/status"
subscribe:              # messages of the far side that become events here
  - topic: "cmd/#"
    to: "down/{topic}"
`,
	New:    New,
	Files:  files,
	Source: NewSource,
}

// maxRemaining is the longest body of a packet, and so more than any payload.
const maxRemaining = 268_435_455

// Sink publishes batches over one connection, which it makes when it is needed.
type Sink struct {
	plan    *plan
	closed  atomic.Bool
	encoder forward.Encoder
	arena   []byte            // payloads of the batch, reused
	tokens  []paho.Token      // of the batch, reused
	through map[string]passed // what a failed batch of each stream had achieved

	mu   sync.Mutex
	conn *connection // nil when there is none
	far  string      // the gateway on the far side, as far as that is known
}

var (
	_ forward.Sink     = (*Sink)(nil)
	_ forward.Selector = (*Sink)(nil)
)

// passed says how far a batch was acknowledged when its Send failed. The same
// batch goes on behind that, so that a slow or shaky link gets somewhere, and
// only what was in flight is repeated.
type passed struct{ epoch, first, last uint64 }

// New reads the settings of one destination. It touches neither network nor
// disk; certificates are read when a connection is made.
func New(s *config.Section) (forward.Sink, error) {
	p, err := read(s)
	if err != nil {
		return nil, err
	}
	return &Sink{plan: p, through: map[string]passed{}}, nil
}

// Wants reports whether e may be sent without going round in circles: see
// "Loops" in the package documentation.
func (s *Sink) Wants(b *forward.Batch, e *event.Event) bool {
	switch {
	case e.Source == Origin && e.Client == s.plan.name:
		return false
	case e.Source == "mqtt" && slices.Contains(s.plan.peers, e.Client):
		return false
	case e.CameFrom(s.peer()):
		return false
	}
	return !s.plan.item || !carries(e.Payload, b.Gateway)
}

func (s *Sink) peer() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.far
}

// Send publishes the batch in order, with up to max_inflight messages on their
// way. It returns nil when the far side has acknowledged every one of them
// over the same connection. After any doubt the connection is given up, so
// that nothing of it arrives behind the next attempt.
func (s *Sink) Send(ctx context.Context, b forward.Batch) error {
	if s.closed.Load() {
		return errors.New("mqtt sink: send after close")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := s.connected(ctx, b.Gateway)
	if err != nil {
		return err
	}
	refused, err := s.publish(ctx, c, &b)
	if err != nil {
		err = s.plan.far.explain(context.Background(), err) // ctx may have ended later
		c.link.fail(errors.New("given up by the sink"))
		s.arena = nil // paho may still read it
		return err
	}
	if len(refused) > 0 {
		return &forward.PartialError{Refused: refused}
	}
	return nil
}

// connected returns the connection, made anew if it was lost.
func (s *Sink) connected(ctx context.Context, gateway string) (*connection, error) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil && !c.link.isDown() {
		return c, nil
	}
	c, err := s.plan.far.connect(ctx, session{id: s.plan.id.render(gateway, s.plan.name), gateway: gateway})
	if err != nil {
		return nil, err
	}
	if _, err := c.introduce(ctx, gateway, map[string]byte{}); err != nil {
		c.link.fail(errors.New("given up by the sink"))
		return nil, s.plan.far.explain(ctx, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		c.link.fail(errClosed)
		return nil, errors.New("mqtt sink: send after close")
	}
	s.conn, s.far = c, c.link.far()
	return c, nil
}

// publish sends b and waits for the acknowledgements. refused are the events
// that MQTT or max_payload rule out.
func (s *Sink) publish(ctx context.Context, c *connection, b *forward.Batch) (refused map[int]error, err error) {
	if cap(s.arena) > 4<<20 { // left behind by a rare large batch
		s.arena = nil
	}
	s.arena = s.arena[:0]
	s.tokens = slices.Grow(s.tokens[:0], len(b.Events))
	defer func() { clear(s.tokens) }()
	skip := s.resume(b)
	done := 0 // events that are through, from the first on
	defer func() { s.keep(b, done, err) }()

	for i := range b.Events {
		m, why := s.message(b, &b.Events[i])
		if why != nil {
			if refused == nil {
				refused = map[int]error{}
			}
			refused[i] = why
		}
		// Known only since the connection was made, for the first batch.
		round := b.Events[i].CameFrom(c.link.far())
		if why != nil || round || i < skip {
			s.tokens = append(s.tokens, nil)
			continue
		}
		for ; i-done >= s.plan.inflight; done++ {
			if err := await(ctx, c, s.tokens[done]); err != nil {
				return nil, err
			}
		}
		if c.link.isDown() { // Publish would wait in vain
			return nil, c.link.cause()
		}
		s.tokens = append(s.tokens, c.Publish(m.topic, s.plan.qos, m.retain, m.payload))
	}
	for ; done < len(s.tokens); done++ {
		if err := await(ctx, c, s.tokens[done]); err != nil {
			return nil, err
		}
	}
	return refused, nil
}

// await returns nil once the token is complete by a PUBACK; with QoS 0, once
// the message was written. paho completes the tokens of a lost connection with
// an error, but leaves some pending for good: the link ends the wait for those.
func await(ctx context.Context, c *connection, t paho.Token) error {
	if t == nil {
		return nil
	}
	select {
	case <-t.Done():
	default:
		select {
		case <-t.Done():
		case <-c.link.down:
			return c.link.cause()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := t.Error()
	if lost := c.link.cause(); err != nil && lost != nil {
		return lost
	}
	return err
}

type message struct {
	topic   string
	payload []byte
	retain  bool
}

// message renders e. The payload is copied: paho may read it after a Send that
// failed, and the batch is the caller's.
func (s *Sink) message(b *forward.Batch, e *event.Event) (m message, refused error) {
	m.topic = s.plan.topic.render(e.Topic, b.Gateway, b.Stream)
	m.retain = s.plan.retain == "always" || s.plan.retain == "keep" && e.Retain
	at := len(s.arena)
	if s.plan.item {
		s.arena = s.encoder.AppendItem(s.arena, b, e)
	} else {
		s.arena = append(s.arena, e.Payload...)
	}
	m.payload = s.arena[at:len(s.arena):len(s.arena)]
	switch {
	case len(m.topic) > event.MaxTopicBytes:
		return m, fmt.Errorf("the topic would have %d bytes, more than MQTT can carry", len(m.topic))
	case len(m.payload) > s.plan.maxPayload:
		return m, fmt.Errorf("the payload has %d bytes, more than max_payload: %d", len(m.payload), s.plan.maxPayload)
	case 4+len(m.topic)+len(m.payload) > maxRemaining:
		return m, fmt.Errorf("the payload has %d bytes, more than MQTT can carry", len(m.payload))
	}
	return m, nil
}

// resume returns how many events of b were acknowledged in an earlier attempt.
func (s *Sink) resume(b *forward.Batch) int {
	p, ok := s.through[b.Stream]
	if !ok || b.Replay || p.epoch != b.Events[0].Epoch || p.first != b.Events[0].Offset {
		return 0
	}
	n := 0
	for n < len(b.Events) && b.Events[n].Offset <= p.last {
		n++
	}
	return n
}

// keep remembers how far a failed Send came.
func (s *Sink) keep(b *forward.Batch, done int, err error) {
	if b.Replay || s.plan.qos == 0 {
		return
	}
	for err != nil && done < len(s.tokens) && acknowledged(s.tokens[done]) {
		done++
	}
	switch {
	case err == nil:
		delete(s.through, b.Stream)
	case done > 0:
		first := &b.Events[0]
		s.through[b.Stream] = passed{first.Epoch, first.Offset, b.Events[done-1].Offset}
	}
}

func acknowledged(t paho.Token) bool {
	if t == nil {
		return true
	}
	select {
	case <-t.Done():
		return t.Error() == nil
	default:
		return false
	}
}

// Close ends the connection with a DISCONNECT.
func (s *Sink) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && !s.conn.link.isDown() {
		s.conn.Disconnect(uint(goodbye.Milliseconds()))
	}
	return nil
}
