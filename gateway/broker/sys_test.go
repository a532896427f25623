package broker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

// The names are those of mosquitto(8), section "Broker status".
var sysTopics = []string{
	"bytes/received", "bytes/sent",
	"clients/active", "clients/connected", "clients/disconnected", "clients/inactive", "clients/maximum", "clients/total",
	"heap/current", "heap/maximum",
	"load/bytes/received/15min", "load/bytes/received/1min", "load/bytes/received/5min",
	"load/connections/1min", "load/messages/received/1min", "load/messages/sent/5min", "load/publish/dropped/1min",
	"load/publish/received/1min", "load/publish/sent/15min", "load/sockets/1min",
	"messages/received", "messages/sent",
	"publish/bytes/received", "publish/bytes/sent", "publish/messages/dropped", "publish/messages/received", "publish/messages/sent",
	"retained messages/count", "subscriptions/count", "uptime", "version",
}

// figuresOf returns what the broker tells about itself at a time.
func figuresOf(s *sys, now time.Time) map[string]string {
	all := map[string]string{}
	for _, f := range s.figures(now) {
		all[f.topic] = f.value
	}
	return all
}

func TestTheBrokerTellsAboutItselfAsMosquittoDoes(t *testing.T) {
	l := newFakeLog()
	b := start(t, l, func(o *Options) { o.Version = "1.2.3" })
	c := connect(t, b, v4, "watcher")
	c.subscribe(filter{"$SYS/broker/#", 0})
	told := map[string]string{}
	for slices.ContainsFunc(sysTopics, func(topic string) bool { return told["$SYS/broker/"+topic] == "" }) {
		m := c.receive()
		if !m.Retain {
			t.Fatalf("%s is not marked as retained", m.Topic)
		}
		told[m.Topic] = m.Payload
	}
	if v := told["$SYS/broker/version"]; v != "holdfast version 1.2.3" {
		t.Errorf("version %q", v)
	}
	c.silence() // no topics that Mosquitto does not have, and none twice
}

func TestSysFiguresCountWhatHappened(t *testing.T) {
	began := time.Now()
	b := start(t, newFakeLog())
	s := newSys(b, began)
	c := connect(t, b, v5, "c")
	connect(t, b, v4, "gone").Close()
	eventually(t, "the end of a connection", func() bool { return b.Stats().Clients == 1 })
	c.subscribe(filter{"t", 1})
	c.publish(pub{topic: "t", payload: "four", qos: 1, id: 1}, pub{topic: "t", payload: "four"})
	c.expect(puback(1)...)
	b.Route([]event.Event{ev("t", "12345678", 0)})
	c.receive()
	got := figuresOf(s, began.Add(time.Minute))
	for topic, want := range map[string]string{
		"uptime": "60 seconds", "clients/total": "2", "clients/connected": "1", "clients/disconnected": "1", "clients/maximum": "2",
		"messages/received": "5", "publish/messages/received": "2", "publish/bytes/received": "8",
		"publish/messages/sent": "1", "publish/bytes/sent": "8", "messages/sent": "5", "subscriptions/count": "1",
		// Two in a minute, of which an average over one minute has taken in 1 - 1/e.
		"load/publish/received/1min": "1.26", "load/connections/1min": "1.26", "load/publish/received/15min": "0.13",
	} {
		if got[topic] != want {
			t.Errorf("%s is %s, want %s", topic, got[topic], want)
		}
	}
	if later := figuresOf(s, began.Add(2*time.Minute)); later["load/publish/received/1min"] != "0.47" {
		t.Errorf("after a quiet minute the load is %s, want 0.47", later["load/publish/received/1min"])
	}
}

func TestOnlyWhatHasChangedIsToldAgain(t *testing.T) {
	now := time.Now()
	b := start(t, newFakeLog())
	s := newSys(b, now)
	s.tell(now)
	c := connect(t, b, v4, "watcher")
	c.subscribe(filter{"$SYS/broker/version", 0}, filter{"$SYS/broker/clients/+", 0})
	for range 7 {
		c.receive()
	}
	s.tell(now.Add(10 * time.Second))
	var topics []string
	for range 4 {
		topics = append(topics, strings.TrimPrefix(c.receive().Topic, "$SYS/broker/clients/"))
	}
	if diff := cmp.Diff([]string{"total", "maximum", "connected", "active"}, topics); diff != "" {
		t.Error(diff)
	}
	c.silence()
}
