package broker

import (
	"fmt"
	"math"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/gateway/event"
)

// sysEvery is how often the topics below $SYS are renewed, as with
// Mosquitto.
const sysEvery = 10 * time.Second

// traffic counts what goes through the sockets.
type traffic struct {
	bytesIn, bytesOut     atomic.Uint64
	packetsIn, packetsOut atomic.Uint64
	payloadIn, payloadOut atomic.Uint64 // bytes of messages
	sockets, connects     atomic.Uint64
}

// sys tells about the broker below $SYS/broker, by the topics that Mosquitto
// has. They are retained, and sent when their value has changed.
type sys struct {
	b       *Broker
	version string
	started time.Time

	told    map[string]string
	loads   []load
	last    time.Time // when the loads were renewed
	clients int       // at most
	heap    uint64    // at most
}

// load is how much of something happens in a minute, averaged over 1, 5 and 15
// minutes.
type load struct {
	topic   string
	count   func() uint64
	last    uint64
	average [3]float64
}

var loadMinutes = [3]float64{1, 5, 15}

func newSys(b *Broker, now time.Time) *sys {
	c := &b.count
	return &sys{b: b, version: b.opt.Version, started: now, last: now, told: map[string]string{}, loads: []load{
		{topic: "messages/received", count: c.packetsIn.Load},
		{topic: "messages/sent", count: c.packetsOut.Load},
		{topic: "publish/received", count: c.received.Load},
		{topic: "publish/sent", count: c.delivered.Load},
		{topic: "publish/dropped", count: c.dropped.Load},
		{topic: "bytes/received", count: c.bytesIn.Load},
		{topic: "bytes/sent", count: c.bytesOut.Load},
		{topic: "sockets", count: c.sockets.Load},
		{topic: "connections", count: c.connects.Load},
	}}
}

// run renews the topics until the broker is closed.
func (s *sys) run() {
	tick := time.NewTicker(s.b.opt.sysEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.tell(now)
		case <-s.b.quit:
			return
		}
	}
}

// tell publishes what has changed.
func (s *sys) tell(now time.Time) {
	var events []event.Event
	for _, f := range s.figures(now) {
		topic := "$SYS/broker/" + f.topic
		if s.told[topic] == f.value {
			continue
		}
		s.told[topic] = f.value
		events = append(events, event.Event{
			Topic: topic, Source: "broker", Received: event.At(now), Payload: []byte(f.value), Retain: true,
		})
	}
	s.b.Route(events)
}

type figure struct{ topic, value string }

func (s *sys) figures(now time.Time) (all []figure) {
	add := func(topic string, n uint64) { all = append(all, figure{topic, strconv.FormatUint(n, 10)}) }
	all = append(all,
		figure{"version", strings.TrimSpace("holdfast version " + s.version)},
		figure{"uptime", fmt.Sprintf("%d seconds", int(now.Sub(s.started).Seconds()))},
	)
	c, stats := &s.b.count, s.b.Stats()
	s.b.mu.Lock()
	total := len(s.b.sessions)
	s.b.mu.Unlock()
	total = max(total, stats.Clients)
	s.clients = max(s.clients, total)
	add("clients/total", uint64(total))
	add("clients/maximum", uint64(s.clients))
	for _, topic := range []string{"clients/connected", "clients/active"} {
		add(topic, uint64(stats.Clients))
	}
	for _, topic := range []string{"clients/disconnected", "clients/inactive"} {
		add(topic, uint64(total-stats.Clients))
	}
	add("clients/expired", stats.Expiries)
	// Messages are not stored for subscribers, but wait in the log.
	stored := stats.Waiting + uint64(stats.Retained)
	add("messages/stored", stored)
	add("store/messages/count", stored)
	add("store/messages/bytes", uint64(stats.Bytes+stats.RetainedBytes))
	add("messages/received", c.packetsIn.Load())
	add("messages/sent", c.packetsOut.Load())
	add("publish/messages/received", stats.Received)
	add("publish/messages/sent", stats.Delivered)
	add("publish/messages/dropped", stats.Dropped)
	add("publish/bytes/received", c.payloadIn.Load())
	add("publish/bytes/sent", c.payloadOut.Load())
	add("bytes/received", c.bytesIn.Load())
	add("bytes/sent", c.bytesOut.Load())
	add("subscriptions/count", uint64(max(atomic.LoadInt64(&s.b.server.Info.Subscriptions), 0)))
	add("shared_subscriptions/count", uint64(stats.Shared))
	add("retained messages/count", uint64(stats.Retained))
	heap := heapBytes()
	s.heap = max(s.heap, heap)
	add("heap/current", heap)
	add("heap/maximum", s.heap)

	minutes := now.Sub(s.last).Minutes()
	s.last = now
	for i := range s.loads {
		l := &s.loads[i]
		l.renew(minutes)
		for k, m := range loadMinutes {
			all = append(all, figure{fmt.Sprintf("load/%s/%.0fmin", l.topic, m), strconv.FormatFloat(l.average[k], 'f', 2, 64)})
		}
	}
	return all
}

// renew takes in what happened in the last minutes.
func (l *load) renew(minutes float64) {
	n := l.count()
	if minutes <= 0 {
		return
	}
	rate := float64(n-l.last) / minutes
	l.last = n
	for k, m := range loadMinutes {
		keep := math.Exp(-minutes / m)
		l.average[k] = l.average[k]*keep + rate*(1-keep)
	}
}

func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// silence takes away what mochi says about itself: its topics have other
// names and meanings.
func (b *Broker) silence() {
	for topic, p := range b.server.Topics.Retained.GetAll() {
		if strings.HasPrefix(topic, "$SYS/") {
			p.Payload = nil
			b.server.Topics.RetainMessage(p)
		}
	}
}
