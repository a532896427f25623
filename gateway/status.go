package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"syscall"
	"time"

	"holdfast/gateway/forward"
	"holdfast/gateway/ops"
	"holdfast/storage"
)

// Status is a snapshot of the gateway.
func (g *Gateway) Status() ops.Status {
	cfg := g.config.Load()
	now := g.log.Now().Std()
	st := ops.Status{
		Version: g.o.Version, Gateway: cfg.Gateway, Epoch: fmt.Sprintf("%016x", g.log.Epoch()),
		Started: g.started.UTC(), Uptime: ops.Seconds(time.Since(g.started)),
		State: ops.OK, Reasons: []string{},
		HTTP: g.http, Control: g.control,
		Streams: []ops.StreamStatus{}, Destinations: []ops.DestinationStatus{}, Rules: []ops.RuleStatus{},
	}
	g.storeStatus(&st, cfg)
	g.mqttStatus(&st)
	if g.ingest != nil {
		s := g.ingest.Stats()
		st.Ingest = &ops.IngestStatus{Listen: g.ingest.Addr(), Events: s.Events, Invalid: s.Invalid, Unauthorized: s.Unauthorized, Refused: s.Refused}
	}
	next := map[string]uint64{}
	for _, s := range g.log.Streams() {
		in := s.Status()
		next[in.Name] = in.Next
		stream := ops.StreamStatus{
			Name: in.Name, First: in.First, Next: in.Next, Bytes: int64(in.Bytes), Max: in.Max,
			MaxEvents: in.MaxEvents, WhenFull: policyName(in.Policy),
			Appended: in.Next - 1 - in.Gap, Removed: in.First - 1 - min(in.Gap, in.First-1), Dropped: in.Dropped, Expired: in.Expired, Damaged: in.Damaged,
			Full: in.Full, Refused: in.Refused, Waiting: in.Waiting,
		}
		if reason := fullness(&in, s.Cursors()); reason != "" {
			st.Degrade(reason)
		}
		if in.Name == streamDead {
			l := in.Letters
			st.Dead = ops.DeadStatus{Open: l.Open, Retried: l.Retried, Purged: l.Purged, Lost: l.Lost}
		} else {
			stream.Keep = new(ops.Seconds(in.Keep))
		}
		st.Streams = append(st.Streams, stream)
	}
	st.Replays = slices.DeleteFunc(g.Replays(), func(r ops.ReplayStatus) bool { return r.State == ops.ReplayDone })
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.log.Streams() {
		for _, c := range sortedCursors(s) {
			d := ops.DestinationStatus{
				Name: c.Name, Stream: s.Name(), Kind: ops.KindRemoved, State: ops.Idle,
				Offset: c.Next - 1, Lag: c.Pending, LagBytes: int64(c.Bytes), Retrying: c.Retrying, Purged: c.Purged,
				Ledger: ops.Ledger{
					Appended: c.Appended, Delivered: c.Ledger.Delivered, Filtered: c.Ledger.Filtered, Expired: c.Ledger.Expired,
					Dropped: c.Ledger.Dropped, Dead: c.Ledger.Dead, Damaged: c.Ledger.Damaged,
					SkippedAtStart: c.Ledger.SkippedAtStart, Pending: c.Pending,
				},
			}
			if c.Oldest != 0 {
				d.Oldest = ops.Seconds(max(now.Sub(c.Oldest.Std()), 0))
			}
			g.forwarderStatus(&d, &st)
			st.Destinations = append(st.Destinations, d)
		}
	}
	g.deviceStatus(&st)
	if cfg.Rules != nil {
		stats := cfg.Rules.Stats()
		for i, r := range cfg.Rules.Rules() {
			c := stats[i]
			rs := ops.RuleStatus{Name: r.Name, Stream: r.Root, Disabled: c.Disabled, Matched: c.Matched, Passed: c.Passed, Failed: c.Failed, Late: c.Late, Emitted: c.Emitted}
			if p := g.processors[r.Root]; p != nil {
				at := p.position.Load()
				rs.Processor = ops.ProcessorStatus{Offset: at - 1, Lag: next[r.Root] - min(at, next[r.Root])}
			}
			if rs.Disabled {
				st.Degrade(fmt.Sprintf("the rule %s is disabled; see holdfast rules list", r.Name))
			}
			st.Rules = append(st.Rules, rs)
		}
	}
	return st
}

func sortedCursors(s *storage.Stream) (all []storage.CursorStatus) {
	for _, c := range s.Cursors() {
		all = append(all, c)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

func (g *Gateway) storeStatus(st *ops.Status, cfg *Config) {
	s := g.log.Stats()
	st.Store = ops.StoreStatus{
		Path: cfg.Store.Path, Bytes: diskUsage(cfg.Store.Path), Free: s.Free, Commits: s.Commits,
		Latency: ops.Latency{Sum: ops.Seconds(s.Total), P50: ops.Seconds(s.P50), P99: ops.Seconds(s.P99)},
	}
	if err := g.log.Err(); err != nil {
		st.Fail(err.Error())
	}
	if s.Full {
		st.Degrade(g.diskFull(s.Free))
	}
	if reason := g.diskWatermark(s.Free); reason != "" && !s.Full {
		st.Degrade(reason)
	}
	if r := g.log.Report(); r.SetAside != "" {
		st.Degrade("a damaged store was set aside in " + r.SetAside)
	}
}

// diskUsage is what the files below dir take on disk, in bytes.
func diskUsage(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil {
			return nil // a file that has just gone
		}
		if info, err := e.Info(); err == nil {
			if sys, ok := info.Sys().(*syscall.Stat_t); ok {
				n += sys.Blocks * 512
			}
		}
		return nil
	})
	return n
}

func (g *Gateway) mqttStatus(st *ops.Status) {
	s := g.broker.Stats()
	st.MQTT = ops.MQTTStatus{
		Listen: []string{}, Clients: int(s.Clients), Received: s.Received, Sent: s.Delivered,
		Reasons: s.Violations, Refused: s.Refused, Sessions: s.Sessions, Absent: s.Absent,
		Waiting: s.Waiting, Dropped: s.Dropped, Expired: s.Expired, Retained: s.Retained, NotRetained: s.NotRetained,
	}
	for _, s := range g.broker.Sessions(20) {
		st.MQTT.Ledgers = append(st.MQTT.Ledgers, ops.SessionStatus{
			Client: s.Client, User: s.User, Connected: s.Connected, Away: ops.Seconds(s.Away), Waiting: s.Waiting, Bytes: s.Bytes,
			Sent: s.Sent, Delivered: s.Delivered, Dropped: s.Dropped, Expired: s.Expired,
		})
	}
	for _, n := range s.Violations {
		st.MQTT.Violations += n
	}
	for _, a := range g.broker.Addrs() {
		st.MQTT.Listen = append(st.MQTT.Listen, a.String())
	}
}

// forwarderStatus adds what the destination at work says to what its cursor
// has on disk.
func (g *Gateway) forwarderStatus(d *ops.DestinationStatus, st *ops.Status) {
	run := g.destinations[d.Name]
	if run == nil {
		if d.Lag > 0 {
			st.Degrade(fmt.Sprintf("destination %s is not configured any more; its place in stream %s is kept, %d events behind: put it back, or run holdfast destination forget %s", d.Name, d.Stream, d.Lag, d.Name))
		}
		return
	}
	d.Kind = run.config.Type
	for i, name := range run.config.From {
		if name != d.Stream {
			continue
		}
		f := run.forwarders[i].Status()
		again := run.retries[i].Status()
		last := f.LastSuccess
		if again.LastSuccess.After(last) {
			last = again.LastSuccess
		}
		if again.State != forward.Idle && f.State == forward.Idle {
			f = again
		}
		f.LastSuccess = last
		d.LastError, d.Attempts, d.NextAttempt, d.LastSuccess = f.Err, f.Attempts, f.NextAttempt, f.LastSuccess
		switch f.State {
		case forward.Sending:
			d.State = ops.Sending
		case forward.Retrying:
			d.State = ops.Retrying
			st.Degrade(fmt.Sprintf("destination %s does not take events: %s", d.Name, f.Err))
		}
	}
}
