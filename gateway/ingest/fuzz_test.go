package ingest

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"holdfast/gateway/event"
)

// Whatever is sent as a batch, it is refused, or every event of it can be
// stored and delivered.
func FuzzABatch(f *testing.F) {
	f.Add("a/b", `{"data":1}`+"\n"+`{"topic":"c","time":"2025-03-01T12:00:00Z","data_base64":"AA=="}`)
	f.Add("", `{"topic":"\ud800","key":"\u0000","qos":0,"data":{"a":[1,"\n"]},"time":1e3}`)
	f.Add("a", `{"data":1,"data":2}`)
	f.Add("a", `{"dat\u0061":1.50,"id":{"x":[]},"time":0.0001}`)
	f.Fuzz(func(t *testing.T, topic, body string) {
		if topic != "" && checkTopic(topic) != nil {
			return
		}
		b := batch{base: event.Event{Topic: topic, QoS: 1}, max: 10, topics: map[string]string{}}
		if err := b.read([]byte(body)); err != nil {
			if p, ok := err.(*problem); !ok || p.Detail == "" || !utf8.ValidString(p.Detail) {
				t.Fatalf("an error that is no problem: %#v", err)
			}
			return
		}
		if n := len(b.events); n == 0 || n > 10 || n > strings.Count(body, "\n")+1 {
			t.Fatalf("%d events", n)
		}
		for _, e := range b.events {
			if err := event.CheckTopic(e.Topic); err != nil || e.Topic[0] == '$' {
				t.Fatalf("topic %q: %v", e.Topic, err)
			}
			if e.QoS > 2 || e.Time < 0 || len(e.Key) > maxKey || e.ContentType == "application/json" && !json.Valid(e.Payload) {
				t.Fatalf("event %+v", e)
			}
		}
	})
}

func FuzzAPath(f *testing.F) {
	for _, p := range []string{"/v1/events", "/v1/events/a/b", "/v1/events/%2F%zz", "/v1/eventsx", "/v1/events/\u00fc?x"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		if topic, err := topicOf(u); err == nil && topic != "" && !strings.HasPrefix(u.Path, root+"/") {
			t.Fatalf("%q gave the topic %q", path, topic)
		}
		if got := traceparent(path); got != "" && got != path {
			t.Fatalf("%q gave the trace %q", path, got)
		}
	})
}
