package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"holdfast/gateway/event"
	"holdfast/rules"
	"holdfast/storage"
)

// input is the passing of time until now, which lies at most a moment back.
func (p *processor) input(now event.Time) rules.Input {
	boot, mono := p.log.Clock()
	return rules.Input{Now: now, Mono: mono - p.log.Now().Std().Sub(now.Std()), Boot: boot}
}

// apply gives the rules an input and logs it if it had an effect.
func (p *processor) apply(in rules.Input) error {
	p.result.Reset()
	if !p.engine.Apply(in, &p.result) {
		return nil
	}
	return p.logInput(in)
}

// logInput commits an input together with what came of it.
func (p *processor) logInput(in rules.Input) error {
	data, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("log an input of the rules: %w", err)
	}
	return p.emit(&p.result, &storage.Input{After: p.next, Now: in.Now, Data: data})
}

// again gives the rules an input of the log.
func (p *processor) again(logged storage.Input) error {
	in := rules.Input{}
	if len(logged.Data) > 0 {
		if err := json.Unmarshal(logged.Data, &in); err != nil {
			return fmt.Errorf("input %d of the rules on %q: %w", logged.Sequence, p.stream.Name(), err)
		}
	}
	in.Now = logged.Now
	if in.Table != "" {
		p.setTable(in.Table, in.Version)
		return nil
	}
	p.engine.Apply(in, &p.result)
	return nil
}

// contain disables rules that cost too much.
func (p *processor) contain() error {
	names, reasons := p.engine.Expensive()
	for i, name := range names {
		p.logger.Error("a rule costs too much and is disabled", "rule", name, "why", reasons[i])
		in := p.input(p.log.Now())
		in.Rule, in.Disable, in.Reason = name, true, reasons[i]
		if err := p.apply(in); err != nil {
			return err
		}
	}
	return nil
}

// asks are questions of other goroutines to that of the processor, to which the
// engine belongs.
type asks struct {
	mu      sync.Mutex
	waiting []question
	wake    context.CancelFunc // ends the waiting for events
	closed  bool
}

type question struct {
	ask  func() error
	done chan error
}

var errNotRunning = errors.New("the rules are being stopped; try again in a moment")

// put has ask called between two steps and returns its error. An error that
// wraps storage.ErrFailed ends the processor.
func (a *asks) put(ctx context.Context, ask func() error) error {
	q := question{ask, make(chan error, 1)}
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return errNotRunning
	}
	a.waiting = append(a.waiting, q)
	if a.wake != nil {
		a.wake()
	}
	a.mu.Unlock()
	select {
	case err := <-q.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// interrupt says how to end the waiting for events.
func (a *asks) interrupt(wake context.CancelFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wake = wake; len(a.waiting) > 0 {
		wake()
	}
}

func (a *asks) take(last bool) []question {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.waiting
	a.waiting, a.wake, a.closed = nil, nil, a.closed || last
	return all
}

func (a *asks) answer() (fatal error) {
	for _, q := range a.take(false) {
		err := q.ask()
		if errors.Is(err, storage.ErrFailed) {
			fatal = err
		}
		q.done <- err
	}
	return fatal
}

func (a *asks) close() {
	for _, q := range a.take(true) {
		q.done <- errNotRunning
	}
}
