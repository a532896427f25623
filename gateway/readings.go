package gateway

import (
	"context"
	"fmt"
	"sync"

	"holdfast/devices"
	"holdfast/gateway/event"
	"holdfast/gateway/ops"
	"holdfast/storage"
)

// runningDevices are the devices of one configuration at work.
type runningDevices struct {
	*devices.Set
	stop         context.CancelFunc // what waits for the log
	done         chan struct{}
	stopCommands context.CancelFunc
	followers    sync.WaitGroup
}

// startDevices runs the configured devices; their readings are events like
// any other.
func (g *Gateway) startDevices(cfg *Config) error {
	if cfg.Devices == nil {
		return nil
	}
	set, err := cfg.Devices()
	if err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	// A device may wait for room in a full stream when it is to stop.
	ctx, stop := context.WithCancel(g.intake)
	in := newIntake(ctx, g.log, cfg.Streams)
	commands, stopCommands := context.WithCancel(context.Background())
	r := &runningDevices{Set: set, stop: stop, done: make(chan struct{}), stopCommands: stopCommands}
	memory := memoryOf(cfg)
	set.Remember(memory)
	g.mu.Lock()
	g.devices = r
	g.mu.Unlock()
	if topics := set.CommandTopics(); len(topics) > 0 {
		reflex := g.newReflex(set, in)
		set.Observe(reflex.see)
		r.followers.Go(func() { reflex.run(commands) })
		f := newFollower(g, set, topics, memory)
		r.followers.Go(func() { f.run(commands) })
	}
	go func() {
		defer close(r.done)
		if err := set.Run(context.Background(), in.patient); err != nil {
			g.fail(err)
		}
	}()
	return nil
}

// patient is an event.Emit for sources that go on without waiting for an
// acknowledgement, so that the committer may linger.
func (in *intake) patient(events []event.Event, done func(error)) error {
	return in.log.Append(in.ctx, in.split(events), storage.AppendOptions{}, done)
}

func (g *Gateway) stopDevices() {
	g.mu.Lock()
	r := g.devices
	g.devices = nil
	g.mu.Unlock()
	if r != nil {
		r.stopCommands()
		r.followers.Wait()
		r.stop()
		r.Close()
		<-r.done
	}
}

// deviceStatus degrades the gateway for every device that is away. The caller
// holds g.mu.
func (g *Gateway) deviceStatus(st *ops.Status) {
	if g.devices == nil {
		return
	}
	for _, d := range g.devices.Status() {
		if d.State == devices.Offline {
			st.Degrade(fmt.Sprintf("device %s is offline: %v", d.Name, d.Err))
		}
	}
}
