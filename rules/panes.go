package rules

import (
	"errors"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// aggregate puts the event into the rule's window.
func (e *Engine) aggregate(r *rule, ev *event.Event, res *Result) {
	w := r.win
	row := window.Row{Offset: ev.Offset, Epoch: ev.Epoch, Values: w.row}
	if ev.Offset == 0 && ev.Cause != nil {
		row.Offset, row.Epoch = ev.Cause.Offset, ev.Cause.Epoch
	}
	var err error
	if row.Time, err = r.rowTime(ev); err == nil && r.key != nil {
		row.Key, err = r.key.text()
	}
	if err == nil && w.while != nil {
		row.Holds, err = w.while.truth()
	}
	for i := 0; err == nil && i < len(w.inputs); i++ {
		w.row[i], err = w.inputs[i].value()
	}
	if err != nil {
		e.fail(r, res, ev, err)
		return
	}

	received := min(max(ev.Received, 0), window.MaxTime-1)
	e.windows.touch(w.entry)
	t, watermark, restart := w.mark.Observe(row.Time, received)
	e.latest = max(e.latest, w.mark.Latest())
	row.Time = t
	panes := e.panes[:0]
	if restart {
		panes = w.window.Flush(panes)
	}
	panes = w.window.Advance(panes, watermark)
	if w.mark.TakeEarly(received) {
		panes = w.window.Early(panes)
	}
	panes, err = w.window.Add(panes, row)
	e.close(r, panes, res)
	switch {
	case errors.Is(err, window.ErrLate):
		e.tally(r).late++
		e.late(r, ev, row.Key, res)
	case err != nil:
		e.fail(r, res, ev, err)
	}
}

// late hands an event whose window has closed to the stream for such.
func (e *Engine) late(r *rule, ev *event.Event, key string, res *Result) {
	if r.win.late == "" {
		return
	}
	out := event.Event{Source: "rule", Client: r.Name, Topic: ev.Topic, Key: key, Time: ev.Happened(), Trace: ev.Trace,
		Payload: ev.Payload, ContentType: e.frame.contentType(), Properties: ev.Properties, QoS: ev.QoS, Cause: r.cause()}
	r.made = append(r.made[:0], output{r.win.late, out})
	e.emit(r, r.made, res)
}

// close emits the panes that the rule's window has closed.
func (e *Engine) close(r *rule, panes []window.Pane, res *Result) {
	for i := range panes {
		e.frame.pane = &panes[i]
		t := e.frame.trace
		if t != nil {
			t.begin(r, nil, &panes[i], res)
		}
		e.pane(r, &panes[i], res)
		if t != nil {
			t.end(res)
		}
	}
	e.frame.pane = nil
	clear(panes)
	e.panes = panes[:0]
}

func (e *Engine) pane(r *rule, p *window.Pane, res *Result) {
	if r.memory != nil {
		if err := r.memory.enter(p.Key, e.steady.now); err != nil {
			e.failPane(r, res, err)
			return
		}
		r.memory.run(closed, p.End)
	}
	if r.having != nil {
		pass, err := r.having.truth()
		if err != nil {
			e.failPane(r, res, err)
			return
		}
		if !pass {
			return
		}
	}
	if r.memory != nil {
		r.memory.run(kept, p.End)
	}
	r.made = r.made[:0]
	for i := range r.emits {
		o := &r.emits[i]
		if o.where != nil {
			if pass, err := o.where.truth(); err != nil {
				e.failPane(r, res, err)
				return
			} else if !pass {
				continue
			}
		}
		ev, err := r.pane(o)
		if err != nil {
			e.fail(r, res, &ev, err)
			return
		}
		r.made = append(r.made, output{o.stream, ev})
	}
	e.emit(r, r.made, res)
}

// tickWindow closes what time alone closes, and gives early results.
func (e *Engine) tickWindow(r *rule, now event.Time, res *Result) (changed bool) {
	w := r.win
	panes := e.panes[:0]
	if due, ok := w.window.Due(); ok {
		watermark, effect := w.mark.Tick(now, due)
		changed = effect != window.NoEffect
		switch effect {
		case window.Advance:
			panes = w.window.Advance(panes, watermark)
		case window.Restart:
			panes = w.window.Flush(panes)
		}
	}
	if at, ok := w.mark.NextEarly(); ok && now >= at && w.window.Changed() && w.mark.TakeEarly(now) {
		panes = w.window.Early(panes)
		changed = true
	}
	if changed {
		e.windows.touch(w.entry)
		e.latest = max(e.latest, w.mark.Latest())
		e.close(r, panes, res)
	}
	return changed
}

// aggregation is the window part of a rule.
type aggregation struct {
	entry  int // in the agenda
	mark   window.Watermark
	window *window.Window
	empty  func() (*window.Window, error) // another one like it
	while  *program                       // of a State window
	late   string                         // stream for late events
	inputs []input
	row    []window.Value
	names  [][]byte // keys of the payload unless the rule names fields
}

// input is an expression that aggregates read.
type input struct {
	program *program
	numeric bool
}

func (in *input) value() (window.Value, error) {
	if in.numeric {
		n, err := in.program.number()
		return window.Num(n), err
	}
	v, err := in.program.run()
	if err != nil {
		return window.Value{}, err
	}
	value, ok := toValue(v)
	if !ok {
		return value, in.program.errorf("the value is %s, which cannot be kept; use a number, text or true or false", describe(v))
	}
	return value, nil
}
