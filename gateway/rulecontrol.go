package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"holdfast/gateway/config"
)

// SetRule enables or disables a rule from here on; that is logged, on disk at
// return, and outlasts restarts and reloads. A disabled rule sees no events and
// keeps its state.
func (g *Gateway) SetRule(ctx context.Context, name string, enable bool) error {
	p, err := g.processorOf(name)
	if err != nil {
		return err
	}
	err = p.asks.put(ctx, func() error {
		in := p.input(p.log.Now())
		in.Rule, in.Disable = name, !enable
		return p.apply(in)
	})
	if err != nil {
		return err
	}
	return g.log.Flush(ctx)
}

// inspected bounds the keys that RuleState shows.
const inspected = 100

// RuleState returns what a rule remembers as JSON, of one key if that is not
// empty.
func (g *Gateway) RuleState(ctx context.Context, name, key string) (json.RawMessage, error) {
	p, err := g.processorOf(name)
	if err != nil {
		return nil, err
	}
	var state json.RawMessage
	err = p.asks.put(ctx, func() error {
		s, err := p.engine.Inspect(name, key, inspected)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false) // calls have < and > in them
		err = enc.Encode(s)
		state = b.Bytes()
		return err
	})
	return state, err
}

// processorOf returns the processor that runs a rule.
func (g *Gateway) processorOf(rule string) (*processor, error) {
	var names []string
	if set := g.config.Load().Rules; set != nil {
		for _, r := range set.Rules() {
			if r.Name != rule {
				names = append(names, r.Name)
				continue
			}
			g.mu.Lock()
			p := g.processors[r.Root]
			g.mu.Unlock()
			if p == nil {
				return nil, errNotRunning
			}
			return p.processor, nil
		}
	}
	if near := config.Nearest(rule, names); near != "" {
		return nil, fmt.Errorf("there is no rule %q, did you mean %q?", rule, near)
	}
	return nil, fmt.Errorf("there is no rule %q; see holdfast rules list", rule)
}
