package broker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

// sysTopics are the topics below $SYS/broker, by the names of mosquitto(8),
// section "Broker status".
func sysTopics() []string {
	topics := []string{
		"bytes/received", "bytes/sent",
		"clients/active", "clients/connected", "clients/disconnected", "clients/expired", "clients/inactive", "clients/maximum", "clients/total",
		"heap/current", "heap/maximum",
		"messages/received", "messages/sent", "messages/stored",
		"publish/bytes/received", "publish/bytes/sent",
		"publish/messages/dropped", "publish/messages/received", "publish/messages/sent",
		"retained messages/count", "shared_subscriptions/count", "store/messages/bytes", "store/messages/count",
		"subscriptions/count", "uptime", "version",
	}
	for _, of := range []string{
		"bytes/received", "bytes/sent", "connections", "messages/received", "messages/sent",
		"publish/dropped", "publish/received", "publish/sent", "sockets",
	} {
		topics = append(topics, "load/"+of+"/1min", "load/"+of+"/5min", "load/"+of+"/15min")
	}
	return topics
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
	var topics []string
	want := sysTopics()
	for range want {
		m := c.receive()
		if !m.Retain {
			t.Fatalf("%s is not marked as retained", m.Topic)
		}
		told[m.Topic] = m.Payload
		topics = append(topics, strings.TrimPrefix(m.Topic, "$SYS/broker/"))
	}
	slices.Sort(want)
	slices.Sort(topics)
	if diff := cmp.Diff(want, topics); diff != "" {
		t.Errorf("topics, -want +got:\n%s", diff)
	}
	if v := told["$SYS/broker/version"]; v != "holdfast version 1.2.3" {
		t.Errorf("version %q", v)
	}
	c.silence()
}

func TestSysFiguresCountWhatHappened(t *testing.T) {
	began := time.Now()
	b := start(t, newFakeLog())
	s := newSys(b, began)
	c := connect(t, b, v5, "c")
	connect(t, b, v4, "gone").Close()
	eventually(t, "the end of a connection", func() bool { return len(b.all()) == 1 })
	c.subscribe(filter{"t", 1})
	c.publish(pub{topic: "t", payload: "four"}, pub{topic: "t", payload: "four", qos: 1, id: 1})
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
	for range 8 {
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
