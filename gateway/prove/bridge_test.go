//go:build prove

package prove

import (
	"fmt"
	"testing"
	"time"
)

// Two gateways each publish what they have at the other one, and in the worst
// case subscribe to it there as well, over the same topics. Nothing goes round,
// also when both are killed in between.
func TestTwoGatewaysBridgedBothWaysPassNothingRound(t *testing.T) {
	const messages = 200
	for _, c := range []struct {
		name, subscribe string
		copies          uint64 // of each message at the other gateway
	}{
		{"publish both ways", "", 1},
		{"publish and subscribe both ways", ", subscribe: [{topic: '#', to: '{topic}'}]", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newGateway(t, "", ""), newGateway(t, "", "")
			a.name, b.name = "east", "west"
			pair := []*process{a, b}
			for i, g := range pair {
				far := pair[1-i]
				err := g.configure(fmt.Sprintf("streams: {events: {max: 64MiB, keep: 1h}}\ndestinations:\n  far: {type: mqtt, url: 'tcp://%s', from: [events], start: oldest, retry: {min: 50ms, max: 200ms}%s}\n", far.mqtt, c.subscribe))
				if err != nil {
					t.Fatal(err)
				}
				g.mustStart(t)
			}
			if c.subscribe != "" {
				// Subscriptions show only what comes after them.
				eventually(t, 10*time.Second, func() bool { return bridged(a, t) && bridged(b, t) }, "both subscribe at each other")
			}
			for i, g := range pair {
				half := publish(1, func(int) *publisher {
					return &publisher{addr: g.mqtt, number: i, window: 20, total: messages / 2, version: 4}
				})
				if err := half.wait(20 * time.Second); err != nil {
					t.Fatal(err)
				}
			}
			want := messages/2 + messages/2*c.copies
			settle := func(want uint64) {
				t.Helper()
				for _, g := range pair {
					eventually(t, 20*time.Second, func() bool { return appended(g, t) >= want }, "%s has %d events, %d are to come", g.name, appended(g, t), want)
				}
			}
			settle(want)
			for _, g := range pair {
				g.kill()
				g.mustStart(t)
			}
			time.Sleep(2 * time.Second) // for what would go round
			var before [2]uint64
			for i, g := range pair {
				before[i] = appended(g, t)
				if extra := before[i] - want; extra > messages { // what was in flight at the kill may come again
					t.Errorf("%s has %d events, want %d", g.name, before[i], want)
				}
			}
			time.Sleep(3 * time.Second)
			for i, g := range pair {
				if n := appended(g, t); n != before[i] {
					t.Errorf("%s had %d events and has %d: something goes round", g.name, before[i], n)
				}
			}
			t.Logf("%s: %d and %d events of %d messages", c.name, before[0], before[1], messages)
		})
	}
}

func appended(g *process, t testing.TB) uint64 {
	for _, s := range g.status(t).Streams {
		if s.Name == "events" {
			return s.Appended
		}
	}
	return 0
}

// bridged reports whether the other gateway's subscribing connection is there.
func bridged(g *process, t testing.TB) bool { return g.status(t).MQTT.Clients >= 1 }
