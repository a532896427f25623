package devices

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/gateway/event"
)

// memorable is how many ids of commands an output remembers.
const memorable = 1000

// desk takes the orders for one output: only the newest is carried out, none
// twice, none too late, and each is reported.
type desk struct {
	feed   *Feed
	label  string // for people: DEVICE, or DEVICE/OUTPUT
	name   string // of what it remembers
	topic  string // of its reports
	output Output
	memory *Memory
	acts   *acts
	wake   chan struct{}

	mu      sync.Mutex
	waiting *Order
	cancel  context.CancelFunc // of the order under way; nil if there is none
	seen    []string           // ids, the oldest first
	closed  bool
}

// furnish makes desks for the outputs of a device.
func (set *Set) furnish(f *Feed, a Actuator) {
	for name, output := range a.Outputs() {
		d := &desk{
			feed: f, output: output, memory: set.wiring.memory, acts: &set.acts, wake: make(chan struct{}, 1),
			label: f.status.Name, name: "commands-" + f.status.Name, topic: f.status.Topic,
		}
		if name != "" {
			d.label += "/" + name
			d.name += "-" + name
			d.topic += "/" + name
		}
		set.desks[d.topic+"/"+setName] = d
		d.topic += "/" + ackName
	}
}

// CommandTopics returns the topics on which the outputs take commands.
func (set *Set) CommandTopics() []string {
	var all []string
	for topic := range set.desks {
		all = append(all, topic)
	}
	slices.Sort(all)
	return all
}

// OutputTopics returns the topics on which the outputs take commands, by the
// name of the device, and /OUTPUT where it has several.
func (set *Set) OutputTopics() map[string]string {
	all := map[string]string{}
	for topic, d := range set.desks {
		all[d.label] = topic
	}
	return all
}

// React has commands of immediate rules carried out, in their order, before what
// the rules acted on is on disk: each takes the place of the one before. React
// does not wait. The same commands must come to Execute when they are in the log;
// then they are reported. One that does not come within 10 s is reported without
// a cause. Commands must be for what happens now, never from the log.
func (set *Set) React(commands []Command) {
	now := time.Now()
	for _, c := range commands {
		d := set.desks[c.Topic]
		if d == nil {
			continue
		}
		o, err := ParseOrder(c, now)
		if err == nil && o.named() {
			err = errors.New("a command of an immediate rule has no id of its own")
		}
		if err == nil {
			err = d.output.Parse(&o)
		}
		o.act = set.acts.begin(c, d, o)
		if err != nil {
			d.report(o, refused, err)
			continue
		}
		d.give(o)
	}
}

var errUnsure = errors.New("the gateway stopped before it was known whether this was done")

// Execute has commands carried out, in their order: of those for one output
// only the newest. Each is reported in an event of its device with the topic
// ending in ack and the command as its cause: done, expired, superseded,
// repeated or refused. What React was given is not done again, and commands that
// stand before it in the log are superseded. Execute does not wait. Commands must
// come from the end of the log, never from a replay.
func (set *Set) Execute(commands []Command) {
	now := time.Now()
	newest := map[*desk]Order{}
	var order []*desk
	for _, c := range commands {
		d := set.desks[c.Topic]
		if d == nil {
			continue
		}
		if c.Rule != "" && set.acts.claim(c) {
			continue
		}
		o, err := ParseOrder(c, now)
		if err == nil {
			err = d.output.Parse(&o)
		}
		switch {
		case set.acts.unsure(c):
			d.report(o, refused, errUnsure)
			continue
		case err != nil:
			d.report(o, refused, err)
			continue
		case !now.Before(o.Deadline):
			d.report(o, expired, nil)
			continue
		case d.known(o):
			d.report(o, repeated, nil)
			continue
		case set.acts.ahead(d):
			d.report(o, superseded, nil)
			continue
		}
		if older, ok := newest[d]; ok {
			d.report(older, superseded, nil)
		} else {
			order = append(order, d)
		}
		newest[d] = o
	}
	for _, d := range order {
		d.give(newest[d])
	}
}

// remember reads which ids have been seen.
func (d *desk) remember() {
	if err := d.memory.Load(d.name, &d.seen); err != nil {
		d.feed.note(err)
	}
}

// known reports whether the id has been seen, and remembers it from now on. The
// identity of an event is no such id: nobody gives it twice.
func (d *desk) known(o Order) bool {
	if !o.named() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Contains(d.seen, o.ID) {
		return true
	}
	if len(d.seen) >= memorable {
		d.seen = d.seen[1:]
	}
	d.seen = append(d.seen, o.ID)
	return false
}

// give puts the order in place of all before it.
func (d *desk) give(o Order) {
	d.mu.Lock()
	older, closed := d.waiting, d.closed
	d.waiting = &o
	if closed {
		d.waiting = nil
	}
	if d.cancel != nil {
		d.cancel()
	}
	d.mu.Unlock()
	if older != nil {
		d.report(*older, superseded, nil)
	}
	if closed {
		d.report(o, refused, errStopping)
		return
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

var errStopping = errors.New("the gateway is stopping")

// run carries out orders until ctx ends.
func (d *desk) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-d.wake:
			d.next(ctx)
		}
	}
	d.mu.Lock()
	left := d.waiting
	d.waiting, d.closed = nil, true
	d.mu.Unlock()
	if left != nil {
		d.report(*left, refused, errStopping)
	}
}

func (d *desk) next(ctx context.Context) {
	untilNewer, cancel := context.WithCancel(ctx)
	defer cancel()
	d.mu.Lock()
	o := d.waiting
	d.waiting = nil
	if o != nil {
		d.cancel = cancel
	}
	ids := slices.Clone(d.seen)
	d.mu.Unlock()
	switch {
	case o == nil:
		return
	case !time.Now().Before(o.Deadline):
		d.report(*o, expired, nil)
	default:
		state, err := d.do(untilNewer, *o, ids)
		if state == superseded && ctx.Err() != nil {
			state, err = refused, errStopping
		}
		d.report(*o, state, err)
	}
	d.mu.Lock()
	d.cancel = nil
	d.mu.Unlock()
}

// do carries an order out. That it was begun is on disk before, so that a
// crash never makes it happen twice.
func (d *desk) do(ctx context.Context, o Order, ids []string) (string, error) {
	if o.named() {
		if err := d.memory.Save(d.name, ids); err != nil {
			return refused, err
		}
	}
	err := d.output.Do(ctx, o)
	switch {
	case err == nil:
		return done, nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return superseded, nil
	}
	return refused, err
}

// report says what became of an order.
func (d *desk) report(o Order, state string, err error) {
	if o.act != nil {
		d.acts.end(o.act, state, err)
		return
	}
	d.tell(o, state, err, time.Now())
}

// tell has it in the log what became of an order.
func (d *desk) tell(o Order, state string, err error, at time.Time) {
	cause := o.cause
	d.feed.hub.mu.Lock()
	defer d.feed.hub.mu.Unlock()
	e := event.Event{
		Time: event.At(at), Topic: d.topic, Source: "device", Client: d.feed.status.Name,
		ContentType: "application/json", Payload: reportPayload(o, state, err), QoS: 1,
	}
	if cause != (event.ID{}) {
		e.Cause = &cause
	}
	d.feed.hub.report(report{feed: d.feed, event: e})
}

// Interlock is a group of outputs of which at most one is on.
type Interlock struct {
	mu     sync.Mutex
	holder string
}

// Interlock returns the group with the name, which is the same for all that
// ask.
func (w *Wiring) Interlock(name string) *Interlock {
	if w.locks[name] == nil {
		w.locks[name] = new(Interlock)
	}
	return w.locks[name]
}

// Take makes who the one that is on, or says which other one is.
func (l *Interlock) Take(who string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder != "" && l.holder != who {
		return fmt.Errorf("%s is on, and must be off before %s", l.holder, who)
	}
	l.holder = who
	return nil
}

// Release says that who is off.
func (l *Interlock) Release(who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == who {
		l.holder = ""
	}
}
