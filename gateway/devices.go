package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/devices"
	"holdfast/gateway/event"
	"holdfast/gateway/ops"
	"holdfast/storage"
)

func (g *Gateway) deviceSet() *devices.Set {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.devices == nil {
		return nil
	}
	return g.devices.Set
}

// DeviceStatus returns how each device does.
func (g *Gateway) DeviceStatus() (all []ops.DeviceStatus) {
	set := g.deviceSet()
	if set == nil {
		return nil
	}
	for _, d := range set.Status() {
		st := ops.DeviceStatus{
			Name: d.Name, Driver: d.Driver, Bus: d.Bus, Topic: d.Topic, State: string(d.State), Since: d.Since, LastRead: d.LastRead,
			Error: d.Err, ErrorAt: d.ErrAt, Failures: d.Failures, Sampled: d.Sampled, Suppressed: d.Suppressed,
			OutOfRange: d.OutOfRange, Captured: d.Captured, Missed: d.Missed, Overruns: d.Overruns, Lost: d.Lost,
			Readings: []ops.DeviceReading{},
		}
		latest, _ := set.Latest(d.Name)
		for _, r := range latest {
			reading := ops.DeviceReading{Name: r.Name, Value: r.Value, Unit: r.Unit, At: r.At}
			if !r.Good {
				reading.Quality = "out_of_range"
			}
			st.Readings = append(st.Readings, reading)
		}
		all = append(all, st)
	}
	return all
}

// ScanDevices looks for devices at all buses of the machine and of the
// configuration.
func (g *Gateway) ScanDevices(ctx context.Context) (all []ops.DeviceFound) {
	set, parts := g.deviceSet(), g.config.Load().Parts
	if set == nil {
		if parts.Buses == nil {
			return nil
		}
		set, _ = devices.Load(nil, nil, parts.Buses) // there is nothing to be wrong
	}
	for _, f := range set.Scan(ctx, parts.Drivers) {
		all = append(all, ops.DeviceFound{Bus: f.Bus, Label: f.Label, At: f.At, Name: f.Name, Device: f.Device, Drivers: f.Drivers, Error: f.Err})
	}
	return all
}

// WriteDevice appends a command for an output to the log, where it takes the
// way of all commands.
func (g *Gateway) WriteDevice(ctx context.Context, output string, command []byte) (w ops.Written, err error) {
	set := g.deviceSet()
	if set == nil {
		return w, fmt.Errorf("%w: this gateway has no devices", ops.ErrNoDevice)
	}
	topic, known := "", set.OutputTopics()
	if topic = known[output]; topic == "" {
		var names []string
		for name := range known {
			names = append(names, name)
		}
		slices.Sort(names)
		return w, fmt.Errorf("%w as %q; there are: %s", ops.ErrNoDevice, output, strings.Join(names, ", "))
	}
	cfg := g.config.Load()
	in := newIntake(g.intake, g.log, cfg.Streams)
	w.Topic = strings.TrimSuffix(topic, "/set") + "/ack"
	answers := in.streamOf(w.Topic)
	_, w.From, _ = answers.Bounds()
	w.Stream = answers.Name()

	done := make(chan error, 1)
	into := in.streamOf(topic)
	batch := []event.Event{{Topic: topic, Source: "cli", Client: "holdfast", Payload: command, QoS: 1}}
	err = g.log.Append(ctx, []storage.Append{{Stream: into, Events: batch}}, storage.AppendOptions{Hurry: true}, func(err error) { done <- err })
	if err == nil {
		select {
		case err = <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return w, fmt.Errorf("write the command to the log: %w", err)
	}
	order, _ := devices.ParseOrder(devices.Command{Payload: command, ID: batch[0].ID(cfg.Gateway, into.Name())}, time.Now())
	w.ID = order.ID // its own, or that of the event
	return w, nil
}
