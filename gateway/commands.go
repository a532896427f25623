package gateway

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/devices"
	"holdfast/gateway/event"
	"holdfast/rules"
	"holdfast/storage"
)

// rememberEvery is how often it is written down how far a stream has been read
// for commands, if there were none.
const rememberEvery = time.Minute

// maxCommands are executed at once.
const maxCommands = 10_000

// follower hands the commands in the log to the outputs. It goes on where the
// gateway stopped: what was given meanwhile is too old, and reported. How far it
// has come is on disk before anything is executed, so that no crash makes a
// command run twice.
type follower struct {
	log    *storage.Log
	set    *devices.Set
	topics []string // sorted
	memory *devices.Memory
	fail   func(error)

	immediate func(rule string) bool
	boot      uint32 // when the outputs began to take commands
	since     time.Duration
}

func newFollower(g *Gateway, set *devices.Set, topics []string, m *devices.Memory) *follower {
	f := &follower{log: g.log, set: set, topics: topics, memory: m, fail: g.fail, immediate: g.immediateRule}
	f.boot, f.since = g.log.Clock()
	return f
}

// immediateRule reports whether there is an immediate rule of that name.
func (g *Gateway) immediateRule(name string) bool {
	set := g.config.Load().Rules
	return set != nil && slices.ContainsFunc(set.Rules(), func(r rules.Rule) bool { return r.Immediate && r.Name == name })
}

// place is how far a stream has been read.
type place struct {
	Epoch uint64 `json:"epoch"`
	Next  uint64 `json:"next"`
}

// memoryOf returns what the devices of a gateway remember.
func memoryOf(cfg *Config) *devices.Memory {
	return devices.MemoryIn(filepath.Join(cfg.Store.Path, "devices"))
}

// run follows all streams until ctx ends.
func (f *follower) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range f.log.Streams() {
		if s.Name() != streamDead {
			all.Go(func() {
				if err := f.follow(ctx, s); err != nil && ctx.Err() == nil {
					f.fail(err)
				}
			})
		}
	}
	all.Wait()
}

func (f *follower) follow(ctx context.Context, s *storage.Stream) error {
	_, next, _ := s.Bounds()
	at := place{f.log.Epoch(), next}
	name := "commands-in-" + s.Name()
	var last place
	if err := f.memory.Load(name, &last); err != nil {
		return err
	}
	if last.Epoch == at.Epoch && last.Next > 0 && last.Next < at.Next {
		at.Next = last.Next
	}
	saved := at
	save := func() error {
		if saved == at {
			return nil
		}
		saved = at
		return f.memory.Save(name, at)
	}
	if err := f.memory.Save(name, at); err != nil {
		return err
	}
	reader := s.Reader(false)
	for seen := time.Now(); ; {
		if s.Wait(ctx, at.Next, false) != nil {
			return save()
		}
		// Up to the end, so that of several commands only the newest runs.
		var commands []devices.Command
		for _, end, _ := s.Bounds(); at.Next < end && len(commands) < maxCommands; {
			events, err := readOn(reader, &at.Next)
			if err != nil {
				return errors.Join(err, save())
			}
			commands = append(commands, f.commands(s.Name(), events)...)
		}
		if len(commands) > 0 || time.Since(seen) > rememberEvery {
			seen = time.Now()
			if err := save(); err != nil {
				return err
			}
		}
		f.set.Execute(commands)
	}
}

// commands picks those for outputs.
func (f *follower) commands(stream string, events []event.Event) (all []devices.Command) {
	for i := range events {
		e := &events[i]
		if _, ok := slices.BinarySearch(f.topics, e.Topic); !ok {
			continue
		}
		cause := f.cause(e)
		c := devices.Command{Topic: e.Topic, Payload: e.Payload, ID: e.ID(f.log.Gateway(), stream), Age: f.age(cause)}
		if e.Source == "rule" && f.immediate(e.Client) {
			c.Rule, c.Time = e.Client, e.Time
			edge := cause.Source == "device" || cause == e // which is not there any more
			c.Before = edge && (cause.Boot != f.boot || cause.Mono < f.since)
		}
		if e.Properties != nil && e.Properties.HasExpiry {
			c.Expiry = max(time.Duration(e.Properties.Expiry)*time.Second, 1)
		}
		all = append(all, c)
	}
	return all
}

// age returns how long ago the cause of a command was, by the time since boot:
// a jump of the wall clock makes nothing older. What is from before a restart of
// the machine is older than anything.
func (f *follower) age(cause *event.Event) time.Duration {
	boot, mono := f.log.Clock()
	if cause.Boot != boot {
		return math.MaxInt64 / 2
	}
	return max(0, mono-cause.Mono)
}

// cause returns the event that e was made from, as far as it is still there, else
// e itself.
func (f *follower) cause(e *event.Event) *event.Event {
	if e.Cause == nil || e.Cause.Gateway != "" && e.Cause.Gateway != f.log.Gateway() || e.Cause.Epoch != f.log.Epoch() {
		return e // rules leave the gateway out: it is this one
	}
	s := f.log.Stream(e.Cause.Stream)
	if s == nil {
		return e
	}
	events, err := s.Reader(false).Read(e.Cause.Offset, storage.ReadLimits{Events: 1, Bytes: 1})
	if err != nil || len(events) == 0 || events[0].Offset != e.Cause.Offset {
		return e
	}
	return &events[0]
}
