package mqttsink_test

import (
	"strings"
	"testing"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/sink/mqttsink"
)

func TestLoopsAreBroken(t *testing.T) {
	item := func(gateways ...string) []byte {
		p := []byte(`{"v":1}`)
		for _, gw := range gateways {
			var enc forward.Encoder
			b := forward.Batch{Gateway: gw, Stream: "events"}
			p = enc.AppendItem(nil, &b, &event.Event{Epoch: 7, Offset: 3, Topic: "t", Payload: p})
		}
		return p
	}
	for _, c := range []struct {
		name, yaml string
		e          event.Event
		want       bool
	}{
		{"from a sensor", "", event.Event{Source: "mqtt", Client: "sensor"}, true},
		{"from the same far side", "", event.Event{Source: mqttsink.Origin, Client: "cloud"}, false},
		{"from another far side", "", event.Event{Source: mqttsink.Origin, Client: "hub"}, true},
		{"from a client of that name", "", event.Event{Source: "mqtt", Client: "cloud"}, true},
		{"from the peer", "peers: [holdfast-b-a]", event.Event{Source: "mqtt", Client: "holdfast-b-a"}, false},
		{"from no peer", "peers: [holdfast-b-a]", event.Event{Source: "mqtt", Client: "holdfast-c-a"}, true},
		{"own item", "payload: item", event.Event{Source: "mqtt", Payload: item("gw-1")}, false},
		{"own item behind two others", "payload: item", event.Event{Source: "mqtt", Payload: item("gw-1", "b", "c")}, false},
		{"item of others", "payload: item", event.Event{Source: "mqtt", Payload: item("b", "c")}, true},
		{"item of a similar name", "payload: item", event.Event{Source: "mqtt", Payload: item("gw-12")}, true},
		{"item of too many", "payload: item", event.Event{Source: "mqtt", Payload: item(strings.Split("abcdefgh", "")...)}, false},
		{"own item, sent raw", "", event.Event{Source: "mqtt", Payload: item("gw-1")}, true},
		{"a payload with an id", "payload: item", event.Event{Source: "mqtt", Payload: []byte(`{"id":"gw-1/1/2/3","data":{}}`)}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, "url: tcp://h\n"+c.yaml).(forward.Selector)
			if got := s.Wants(&forward.Batch{Gateway: "gw-1", Stream: "events"}, &c.e); got != c.want {
				t.Errorf("Wants %v, want %v", got, c.want)
			}
		})
	}
}
