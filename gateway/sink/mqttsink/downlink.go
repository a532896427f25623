package mqttsink

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/gateway/forward"
)

const (
	maxTake    = 256             // messages that are committed together
	maxMessage = 4 << 20         // bytes of a payload that becomes an event
	steady     = time.Minute     // a connection that lasts so long was a good one
	grace      = 5 * time.Second // for the commit under way when Run is to end
)

// Downlink takes messages of the far side in, and shows there whether the
// gateway is connected.
//
// Its session is kept by the far side while the gateway is away. One batch is
// under way at a time: taken in order, committed, then acknowledged in order.
// When anything fails the connection is given up, and the far side sends again
// what was not acknowledged.
type Downlink struct {
	plan *plan
	asks bool // to subscribe: the session may know other subscriptions
	seed maphash.Seed
	held map[uint16]uint64 // on disk, but surely not acknowledged: packet identifier to digest

	mu     sync.Mutex
	status forward.SourceStatus
}

var _ forward.Source = (*Downlink)(nil)

// NewSource reads the settings of one destination and returns its downlink,
// or nil if they have neither subscribe nor status.
func NewSource(s *config.Section) (forward.Source, error) {
	p, err := read(s)
	if err != nil || len(p.subscriptions) == 0 && p.status == nil {
		return nil, err
	}
	return &Downlink{plan: p, asks: true, seed: maphash.MakeSeed(), held: map[uint16]uint64{}}, nil
}

// Status returns a snapshot.
func (d *Downlink) Status() forward.SourceStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// Run keeps the downlink connected until ctx ends.
func (d *Downlink) Run(ctx context.Context, in forward.Intake) error {
	if in.Logger == nil {
		in.Logger = slog.Default()
	}
	in.Logger = in.Logger.With("destination", d.plan.name)
	failures, said := 0, ""
	for ctx.Err() == nil {
		v := &visit{Downlink: d, in: in, arrived: make(chan paho.Message, maxTake)}
		began := time.Now()
		err := v.run(ctx)
		if ctx.Err() != nil {
			break
		}
		if v.c != nil && time.Since(began) > steady {
			failures = 0
		}
		failures++
		if text := err.Error(); v.c != nil || text != said { // an outage of days is one line
			said = text
			in.Logger.Warn("no connection to take messages in", "err", err)
		}
		d.disconnected(err)
		pause(ctx, forward.Backoff{}.Pause(failures))
	}
	d.disconnected(nil)
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (d *Downlink) disconnected(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.status.Connected || d.status.Since.IsZero() {
		d.status.Since = time.Now()
	}
	d.status.Connected, d.status.Err = false, ""
	if err != nil {
		d.status.Err = err.Error()
	}
}

func (d *Downlink) connected() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Connected, d.status.Since, d.status.Err = true, time.Now(), ""
}

func (d *Downlink) count(received, repeated, dropped int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Received += uint64(received)
	d.status.Repeated += uint64(repeated)
	d.status.Dropped += uint64(dropped)
}

// visit is one connection of a downlink.
type visit struct {
	*Downlink
	in      forward.Intake
	c       *connection // nil until it is made
	arrived chan paho.Message
	warned  bool // of messages that become no event
}

// run connects, takes messages in, and returns why that ended.
func (v *visit) run(ctx context.Context) error {
	p := v.plan
	s := session{
		gateway: v.in.Gateway,
		id:      p.down.render(v.in.Gateway, p.name), keep: len(p.subscriptions) > 0,
		received: func(l *link, m paho.Message) {
			select {
			case v.arrived <- m:
			case <-l.down:
			}
		},
	}
	if p.status != nil {
		s.will = &will{v.statusTopic(), []byte(p.status.offline), p.status.retain}
	}
	c, err := p.far.connect(ctx, s)
	if err != nil {
		return err
	}
	if !c.present {
		clear(v.held) // the far side has forgotten them too
	}
	if err := v.greet(ctx, c); err != nil {
		c.link.fail(errors.New("given up by the downlink"))
		return p.far.explain(ctx, err)
	}
	v.c = c
	v.connected()
	v.in.Logger.Info("connected to take messages in", "session", map[bool]string{true: "kept", false: "new"}[c.present])
	err = v.take(ctx)
	if err == nil {
		v.leave()
		return nil
	}
	c.link.fail(errors.New("given up by the downlink"))
	return p.far.explain(ctx, err)
}

func (v *visit) statusTopic() string { return v.plan.status.topic.render(v.in.Gateway, v.plan.name) }

// greet subscribes and shows the status. A session that the far side has kept
// since an earlier visit has its subscriptions: asking again would only bring
// every retained message again.
func (v *visit) greet(ctx context.Context, c *connection) error {
	filters := map[string]byte{}
	if v.asks || !c.present {
		for _, s := range v.plan.subscriptions {
			filters[s.filter] = s.qos
		}
	}
	codes, err := c.introduce(ctx, v.in.Gateway, filters)
	if err != nil {
		return err
	}
	for filter, code := range codes {
		if code > 2 {
			return fmt.Errorf("the far side refuses the subscription to %q; check its permissions", filter)
		}
	}
	v.asks = false
	if v.plan.status == nil {
		return nil
	}
	return await(ctx, c, c.Publish(v.statusTopic(), 1, v.plan.status.retain, v.plan.status.online))
}

// leave ends a visit in peace. The status is published as offline because the
// far side does not publish the will after a DISCONNECT.
func (v *visit) leave() {
	if v.plan.status != nil {
		ctx, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		_ = await(ctx, v.c, v.c.Publish(v.statusTopic(), 1, v.plan.status.retain, v.plan.status.offline))
	}
	v.c.Disconnect(uint(goodbye.Milliseconds()))
}

// take moves messages into the log until the connection is lost or ctx ends;
// then it returns nil.
func (v *visit) take(ctx context.Context) error {
	for {
		var batch []paho.Message
		select {
		case <-ctx.Done():
			return nil
		case <-v.c.link.down:
			return v.c.link.cause()
		case m := <-v.arrived:
			batch = append(batch, m)
		}
		for size := len(batch[0].Payload()); len(batch) < maxTake && size < maxMessage; {
			m, more := v.waiting()
			if !more {
				break
			}
			size += len(m.Payload())
			batch = append(batch, m)
		}
		if err := v.commit(ctx, batch); err != nil {
			return err
		}
		v.acknowledge(batch)
	}
}

func (v *visit) waiting() (paho.Message, bool) {
	select {
	case m := <-v.arrived:
		return m, true
	default:
		return nil, false
	}
}

// commit returns nil when all events of the batch are on disk.
func (v *visit) commit(ctx context.Context, batch []paho.Message) error {
	now := event.At(time.Now())
	var events []event.Event
	repeated, dropped := 0, 0
	for _, m := range batch {
		if v.repeated(m) {
			repeated++
			continue
		}
		e, err := v.event(m, now)
		if err != nil {
			dropped++
			if !v.warned {
				v.warned = true
				v.in.Logger.Warn("message dropped", "topic", m.Topic(), "err", err)
			}
			continue
		}
		events = append(events, e)
	}
	if len(events) > 0 {
		if err := emit(ctx, v.in.Emit, events); err != nil {
			return fmt.Errorf("a message could not be stored, the far side will send it again: %w", err)
		}
	}
	v.count(len(events), repeated, dropped)
	return nil
}

// emit waits until the events are on disk, and after ctx has ended only for
// the grace.
func emit(ctx context.Context, to event.Emit, events []event.Event) error {
	done := make(chan error, 2)
	go func() {
		if err := to(events, func(err error) { done <- err }); err != nil {
			done <- err
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(grace):
		return errors.New("the log did not answer before the shutdown")
	}
}

// repeated reports whether m is on disk already: it came on an earlier
// connection, was stored, and could not be acknowledged, so that its packet
// identifier cannot mean another message.
func (v *visit) repeated(m paho.Message) bool {
	digest, held := v.held[m.MessageID()]
	if !held || m.Qos() == 0 {
		return false
	}
	if m.Duplicate() && digest == v.digest(m) {
		return true // held until it is acknowledged
	}
	delete(v.held, m.MessageID())
	return false
}

func (d *Downlink) digest(m paho.Message) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	_, _ = h.WriteString(m.Topic())
	_ = h.WriteByte(0)
	_, _ = h.Write(m.Payload())
	return h.Sum64()
}

// event makes an event of a message. An error means that no event can ever be
// made of it.
func (v *visit) event(m paho.Message, now event.Time) (e event.Event, err error) {
	if err := event.CheckTopic(m.Topic()); err != nil {
		return e, err
	}
	if n := len(m.Payload()); n > maxMessage {
		return e, fmt.Errorf("its payload has %d bytes, more than %d", n, maxMessage)
	}
	for i := range v.plan.subscriptions {
		sub := &v.plan.subscriptions[i]
		if !event.Match(sub.filter, m.Topic()) {
			continue
		}
		topic := sub.to.render(m.Topic(), v.in.Gateway)
		if len(topic) > event.MaxTopicBytes || topic[0] == '$' {
			return e, fmt.Errorf("its topic would begin with %.40q and have %d bytes, which no event can have", topic, len(topic))
		}
		var cause *event.ID
		if gateway := v.c.link.far(); gateway != "" {
			cause = &event.ID{Gateway: gateway}
		}
		return event.Event{
			Cause: cause, Received: now, Topic: topic, Source: Origin, Client: v.plan.name,
			Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained() && sub.retain,
		}, nil
	}
	return e, errors.New("no subscription of the settings matches; the far side still has one of earlier settings: clear the session there, or set another subscribe_client_id")
}

// acknowledge answers the batch in order [MQTT-4.6.0-2]. What can no longer be
// answered is remembered, so that its repetition is known.
func (v *visit) acknowledge(batch []paho.Message) {
	for _, m := range batch {
		switch {
		case m.Qos() == 0:
		case v.c.link.isDown():
			v.held[m.MessageID()] = v.digest(m)
		default:
			m.Ack()
			delete(v.held, m.MessageID())
		}
	}
}
