package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/gateway/event"
	"holdfast/rules"
	"holdfast/storage"
)

// processor runs the rules that read one stream. It reads events as soon as
// they have an offset, while they are being synced; what it makes of them is
// committed behind them, together with how far it got. After a crash it loads
// its checkpoint, evaluates again what came after it without emitting, and
// goes on: the outputs are those of an undisturbed run.
type processor struct {
	log    *storage.Log
	stream *storage.Stream
	engine *rules.Engine
	dir    string // of checkpoints
	logger *slog.Logger

	durable *storage.Processor
	reader  *storage.Reader
	pin     *storage.Pin
	gateway string

	next    uint64 // offset of the next event to be evaluated
	covered uint64 // outputs of the events below were emitted before
	result  rules.Result

	// Steps on their way to the disk.
	room    chan struct{} // holds one for each step on its way
	pending sync.WaitGroup

	checkpointed checkpoint // the newest one on disk
	bytes        int64      // evaluated since the checkpoint
	saved        time.Time

	forgotten uint64 // logged inputs up to this one were removed

	position atomic.Uint64 // next, for the status

	inputs []storage.Input // logged since the checkpoint, until run has applied them again

	asks    asks
	sources []TableConfig
	tables  tableVersions
}

const (
	checkpointEvery = 30 * time.Second
	checkpointBytes = 64 << 20
	stepsInFlight   = 32
	stepEvents      = 4000
	// A step with more bytes of output is split between two inputs.
	stepBytes = 1 << 20
)

// worked returns for how long, in nanoseconds, a processor has worked for the thread
// at hand. What others take on a busy machine is not in it.
func worked() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0 // then no rule is too expensive
	}
	return t.Nano()
}

// newProcessor loads the checkpoint of the stream's rules; run brings their
// state up to date.
func newProcessor(log *storage.Log, stream *storage.Stream, engine *rules.Engine, tables []TableConfig, dir string, logger *slog.Logger) (*processor, error) {
	p := &processor{
		log: log, stream: stream, engine: engine, sources: tables, dir: dir, gateway: log.Gateway(),
		logger: logger.With("stream", stream.Name()),
		reader: stream.Reader(true),
		room:   make(chan struct{}, stepsInFlight),
		saved:  time.Now(),
	}
	p.openTables(dir)
	started := time.Now()
	engine.Meter, engine.Work = func() int64 { return int64(time.Since(started)) }, worked
	all, problems := readCheckpoints(dir, stream.Name())
	if problems != nil {
		p.logger.Warn("a checkpoint cannot be read; the rules go back to an older one", "err", problems)
	}
	first, _, _ := stream.Bounds()
	found := false
	for _, c := range all {
		restored, err := engine.Restore(bytes.NewReader(c.State))
		if err != nil {
			p.logger.Warn("a checkpoint cannot be used; the rules go back to an older one", "err", err)
			continue
		}
		p.report(restored)
		p.checkpointed, found = c, true
		break
	}
	var err error
	p.durable, p.covered, p.inputs, err = log.OpenProcessor(stream.Name(), p.checkpointed.Input)
	if err != nil {
		return nil, err
	}
	if !found {
		// Rules that see this stream for the first time begin with its next
		// event; with a lost checkpoint they begin with what is kept.
		_, _, p.checkpointed.Next = stream.Bounds()
		if p.covered > 0 {
			p.checkpointed.Next = first
			p.logger.Warn("no checkpoint: the state of the rules is worked out again from what the stream keeps")
		}
	}
	p.next = max(p.checkpointed.Next, first)
	older := p.next
	p.forgotten = p.checkpointed.Input
	for _, c := range all {
		older, p.forgotten = min(older, c.Next), min(p.forgotten, c.Input)
	}
	p.pin = stream.Pin("rules", older)
	p.position.Store(p.next)
	if !found {
		// From here on a crash finds where the rules began.
		if err := p.save(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// report says what rules that have changed keep of their state.
func (p *processor) report(r rules.Restored) {
	for _, about := range []struct {
		rules []string
		text  string
	}{
		{r.Kept, "rules that have changed keep their state"},
		{r.Partly, "rules that have changed keep a part of their state"},
		{r.Lost, "rules that have changed or are gone lose their state"},
	} {
		if len(about.rules) > 0 {
			p.logger.Info(about.text, "rules", about.rules)
		}
	}
	p.restoreTables(r.Tables)
}

// rerun brings the state to where the outputs end, without emitting any. It
// stops early, with an error, when ctx ends.
func (p *processor) rerun(ctx context.Context) error {
	inputs := p.inputs
	p.inputs = nil
	for ctx.Err() == nil {
		limit := storage.ReadLimits{Events: 1000, Bytes: 1 << 20}
		for len(inputs) > 0 && inputs[0].After <= p.next {
			p.result.Reset()
			if err := p.again(inputs[0]); err != nil {
				return err
			}
			inputs = inputs[1:]
		}
		end := p.covered
		if len(inputs) > 0 {
			end = inputs[0].After // inputs are covered, see commit
		}
		if p.next >= end {
			if len(inputs) == 0 {
				return nil
			}
			continue
		}
		limit.Events = int(min(uint64(limit.Events), end-p.next))
		events, err := p.read(limit)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			// Covered lies beyond the log's end: what follows is new.
			return nil
		}
		p.result.Reset()
		n := p.engine.Step(events, &p.result)
		p.advance(events[:n])
	}
	return ctx.Err()
}

// read returns the next events, passing over what is gone.
func (p *processor) read(l storage.ReadLimits) ([]event.Event, error) {
	for {
		events, err := p.reader.Read(p.next, l)
		var trimmed *storage.TrimmedError
		var damaged *storage.DamagedError
		switch {
		case errors.As(err, &trimmed):
			p.logger.Warn("retention has passed the rules: they miss events", "from", p.next, "next", trimmed.First)
			p.next = trimmed.First
		case errors.As(err, &damaged):
			p.logger.Error("the rules pass over events that cannot be read", "err", err)
			p.next = damaged.Next
		default:
			return events, err
		}
	}
}

func (p *processor) advance(events []event.Event) {
	p.next = events[len(events)-1].Offset + 1
	p.position.Store(p.next)
	for i := range events {
		p.bytes += int64(events[i].Size())
	}
}

// run brings the state up to date and evaluates until ctx ends, then writes a
// checkpoint. It returns early only with an error of the log.
func (p *processor) run(ctx context.Context) error {
	defer p.stream.Unpin("rules")
	defer p.asks.close()
	// Sources need not wait for this, which may be for many megabytes.
	if err := p.rerun(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // the checkpoint stays as it is
		}
		return err
	}
	if err := p.followTables(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := p.await(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
		if err := p.asks.answer(); err != nil {
			return err
		}
		if err := p.step(); err != nil {
			return err
		}
		if err := p.tick(); err != nil {
			return err
		}
		if err := p.contain(); err != nil {
			return err
		}
		if p.checkpointDue() {
			if err := p.checkpoint(); err != nil {
				return err
			}
		}
	}
	return p.checkpoint()
}

// await returns when there is an event, a window may close, or a checkpoint
// is due.
func (p *processor) await(ctx context.Context) error {
	wait := checkpointEvery
	if due, ok := p.engine.Due(p.input(p.log.Now())); ok {
		wait = min(wait, max(due, time.Millisecond))
	}
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	p.asks.interrupt(cancel)
	err := p.stream.Wait(short, p.next, true)
	if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrClosed) {
		return nil
	}
	return err
}

// step evaluates the events that are there.
func (p *processor) step() error {
	// From memory all that is there comes at once; whoever has fallen behind
	// reads block by block, and would commit a step for each.
	p.result.Reset()
	for n := 0; n < stepEvents; {
		events, err := p.read(storage.ReadLimits{Events: stepEvents - n, Bytes: 1 << 20})
		if err != nil {
			return err
		}
		if len(events) == 0 {
			break
		}
		done := p.engine.Step(events, &p.result)
		p.advance(events[:done])
		n += done
		if done < len(events) {
			break // a rule costs too much: contain comes first
		}
	}
	return p.emit(&p.result, nil)
}

// tick closes the windows that time alone closes.
func (p *processor) tick() error {
	if due, ok := p.engine.Due(p.input(p.log.Now())); !ok || due > 0 {
		return nil
	}
	// Every event up to now must have been evaluated before the clock moves.
	now := p.input(p.log.SequencedUntil())
	if _, _, next := p.stream.Bounds(); next > p.next {
		return nil
	}
	if due, _ := p.engine.Due(now); due > 0 {
		return nil
	}
	return p.apply(now)
}

// emit commits what an evaluation gave; nothing if it gave nothing and was
// made by events alone, for evaluating them again gives nothing again.
func (p *processor) emit(r *rules.Result, input *storage.Input) error {
	if len(r.Outputs) == 0 && len(r.Failures) == 0 && input == nil {
		return nil
	}
	if input != nil {
		return p.commit(r.Outputs, r.Failures, p.next, input)
	}
	outputs, failures := r.Outputs, r.Failures
	for {
		n, size := 0, 0
		for n < len(outputs) && (size < stepBytes || outputs[n].Offset == outputs[n-1].Offset) {
			size += outputs[n].Event.Size()
			n++
		}
		if n == len(outputs) {
			return p.commit(outputs, failures, p.next, nil)
		}
		covered := outputs[n].Offset
		k := 0
		for k < len(failures) && failures[k].Offset < covered {
			k++
		}
		if err := p.commit(outputs[:n], failures[:k], covered, nil); err != nil {
			return err
		}
		outputs, failures = outputs[n:], failures[k:]
	}
}

// commit hands one step to the committer.
func (p *processor) commit(outputs []rules.Output, failures []rules.Failure, covered uint64, input *storage.Input) error {
	st := storage.Step{Covered: covered, Input: input}
	add := func(stream string, e event.Event) {
		// A payload that is passed on shares its memory with all that came in
		// together; it may stay in memory much longer than they.
		e.Payload = bytes.Clone(e.Payload)
		s := p.log.Stream(stream)
		for i := range st.Outputs {
			if st.Outputs[i].Stream == s {
				st.Outputs[i].Events = append(st.Outputs[i].Events, e)
				return
			}
		}
		st.Outputs = append(st.Outputs, storage.Append{Stream: s, Events: []event.Event{e}})
	}
	for i := range outputs {
		add(outputs[i].Stream, outputs[i].Event)
	}
	for i := range failures {
		f := &failures[i]
		// A dead letter that a rule fails on is one already, and so is what a rule
		// has made of one: another letter would come back for ever.
		if p.stream.Name() != streamDead && (f.Event.Cause == nil || f.Event.Cause.Stream != streamDead) {
			add(streamDead, ruleLetter(f, p.gateway, p.stream.Name(), p.log.Now()))
		}
	}
	p.room <- struct{}{}
	p.pending.Add(1)
	err := p.durable.Commit(st, func(error) {
		<-p.room
		p.pending.Done()
	})
	if err != nil {
		<-p.room
		p.pending.Done()
		return fmt.Errorf("rules on %q: %w", p.stream.Name(), err)
	}
	return nil
}

func (p *processor) checkpointDue() bool {
	if p.next == p.checkpointed.Next && p.durable.Sequence() == p.checkpointed.Input {
		return false
	}
	select {
	case <-p.pin.Pressure:
		return true
	default:
	}
	limit := min(checkpointBytes, p.stream.Max()/8)
	return p.bytes >= limit || time.Since(p.saved) >= checkpointEvery
}

// checkpoint writes the state, once everything that it is made of is on disk.
func (p *processor) checkpoint() error {
	if p.next == p.checkpointed.Next && p.durable.Sequence() == p.checkpointed.Input {
		return nil
	}
	p.pending.Wait()
	if p.next > 1 {
		if err := p.stream.Wait(context.Background(), p.next-1, false); err != nil {
			return err
		}
	}
	return p.save()
}

// save writes the state as it is.
func (p *processor) save() error {
	c := checkpoint{Next: p.next, Input: p.durable.Sequence()}
	var state bytes.Buffer
	if err := p.engine.Snapshot(&state); err != nil {
		return fmt.Errorf("snapshot the rules on %q: %w", p.stream.Name(), err)
	}
	c.State = state.Bytes()
	if err := c.write(p.dir, p.stream.Name()); err != nil {
		// Not fatal: the re-run after a crash takes longer.
		p.logger.Warn("no checkpoint", "err", err)
		p.saved = time.Now()
		return nil
	}
	// The older generation begins where the newer one did; the log and the
	// inputs before it are not needed any more.
	older := p.checkpointed
	p.checkpointed = checkpoint{Next: c.Next, Input: c.Input}
	p.pin.Move(older.Next)
	p.tables.forget(p.engine.Tables())
	p.bytes, p.saved = 0, time.Now()
	if older.Input > p.forgotten {
		if err := p.durable.Forget(p.forgotten+1, older.Input); err != nil {
			return err
		}
		p.forgotten = older.Input
	}
	return nil
}
