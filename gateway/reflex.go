package gateway

import (
	"context"
	"fmt"
	"sync"

	"holdfast/devices"
	"holdfast/gateway/event"
	"holdfast/rules"
	"holdfast/storage"
)

// maxEdges wait for the reflex. What comes beyond them is acted on when it is in
// the log.
const maxEdges = 10_000

// reflex has outputs do what immediate rules say, as soon as an edge of an input
// comes. What is written about it is made by the processor, of the same edge and
// the same rule, when the edge has its place in the log.
type reflex struct {
	log     *storage.Log
	set     *devices.Set
	outputs map[string]bool                 // topics of commands
	stream  map[string]string               // of the topics of edges
	ahead   func() map[string]*rules.Engine // by stream; they change with the rules
	result  rules.Result

	mu      sync.Mutex
	waiting []event.Event
	wake    chan struct{}
}

func (g *Gateway) newReflex(set *devices.Set, in *intake) *reflex {
	r := &reflex{log: g.log, set: set, outputs: map[string]bool{}, stream: map[string]string{}, ahead: g.aheadOf, wake: make(chan struct{}, 1)}
	for _, topic := range set.CommandTopics() {
		r.outputs[topic] = true
	}
	for _, topic := range set.EdgeTopics() {
		r.stream[topic] = in.streamOf(topic).Name()
	}
	return r
}

// aheadOf returns the engines of immediate rules by stream; nil while rules are
// being changed.
func (g *Gateway) aheadOf() map[string]*rules.Engine {
	if engines := g.ahead.Load(); engines != nil {
		return *engines
	}
	return nil
}

// Reacts reports whether there are immediate rules, so that an edge may have to be
// acted on within milliseconds.
func (g *Gateway) Reacts() bool { return len(g.aheadOf()) > 0 }

// see takes edges; it is for devices.Set.Observe.
func (r *reflex) see(events []event.Event) {
	if len(r.ahead()) == 0 {
		return
	}
	r.mu.Lock()
	for i := range events {
		if r.stream[events[i].Topic] != "" && len(r.waiting) < maxEdges {
			r.waiting = append(r.waiting, events[i])
		}
	}
	due := len(r.waiting) > 0
	r.mu.Unlock()
	if due {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// run acts on edges until ctx ends.
func (r *reflex) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		r.mu.Lock()
		edges := r.waiting
		r.waiting = nil
		r.mu.Unlock()
		r.act(edges)
	}
}

// act gives the outputs what the rules make of edges.
func (r *reflex) act(edges []event.Event) {
	engines := r.ahead()
	var commands []devices.Command
	for i := range edges {
		e := &edges[i]
		engine := engines[r.stream[e.Topic]]
		if engine == nil {
			continue
		}
		// As the log will stamp it, but for the moment until then.
		e.Received = r.log.Now()
		e.Boot, e.Mono = r.log.Clock()
		r.result.Reset()
		engine.Step(edges[i:i+1], &r.result)
		for k := range r.result.Outputs {
			o := &r.result.Outputs[k].Event
			if r.outputs[o.Topic] {
				commands = append(commands, devices.Command{Topic: o.Topic, Payload: o.Payload, Rule: o.Client, Time: o.Time})
			}
		}
	}
	r.set.React(commands)
}

// lookAhead makes the engines of immediate rules. The processors do not run yet.
func (g *Gateway) lookAhead(set *rules.Set, all []*processor) error {
	engines := map[string]*rules.Engine{}
	for _, p := range all {
		ahead, err := set.Ahead(p.engine)
		if err != nil {
			return fmt.Errorf("immediate rules on %q: %w", p.stream.Name(), err)
		}
		if ahead != nil {
			engines[p.stream.Name()] = ahead
		}
	}
	g.ahead.Store(&engines)
	return nil
}
