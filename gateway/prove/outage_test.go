//go:build prove

package prove

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAfterAnOutageEverythingArrivesInOrderAndOnlyThePoisonIsADeadLetter(t *testing.T) {
	const publishers, each = 4, 25000
	const poisoner, poison = 2, 19000 // message 19000 of publisher 2
	letters := newReceiver(t)
	if err := letters.up(); err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t) // down
	g := newGateway(t, "", `
streams: {events: {max: 1GiB, keep: 24h}}
destinations:
  cloud: {type: http, url: "`+r.url()+`", from: [events], start: oldest, batch: {events: 500, bytes: 256KiB, linger: 50ms}}
  letters: {type: http, url: "`+letters.url()+`", from: [dead], start: oldest}
`)
	g.mustStart(t)
	poisoned := func(i item) bool {
		return i.Topic == fmt.Sprintf("plant/%d/temp", poisoner) && strings.Contains(string(i.Data), fmt.Sprintf(`"n":%d,`, poison))
	}
	f := publish(publishers, func(i int) *publisher {
		return &publisher{addr: g.mqtt, number: i, window: 200, total: each, version: 4}
	})
	eventually(t, 60*time.Second, func() bool { return f.acked() > publishers*each/2 }, "half of the messages are acknowledged")
	g.mustStop(t)
	g.mustStart(t)
	if err := f.wait(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	if n := r.distinct(); n != 0 {
		t.Fatalf("%d messages arrived at a receiver that is down", n)
	}

	// The key has expired: 401 for ten seconds.
	r.respond(func([]item) int { return http.StatusUnauthorized })
	if err := r.up(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 90*time.Second, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.refused > 0 }, "the destination is tried again")
	time.Sleep(10 * time.Second)
	for _, d := range g.status(t).Destinations {
		if d.Name == "cloud" && d.Stream == "events" && (d.Ledger.Dead != 0 || d.Ledger.Delivered != 0 || !strings.Contains(d.LastError, "401")) {
			t.Errorf("with 401 the destination is %+v", d)
		}
	}
	restored := time.Now()
	r.respond(func(batch []item) int {
		for _, i := range batch {
			if poisoned(i) {
				return http.StatusBadRequest
			}
		}
		return http.StatusOK
	})
	eventually(t, 120*time.Second, func() bool { return r.distinct() >= publishers*each-1 }, "all but one arrive")
	drained := time.Since(restored)
	waitForLag0(t, g, 20*time.Second)

	if n, example := r.missing(f); n != 1 || example != fmt.Sprintf("message %d of publisher %d", poison, poisoner) {
		t.Errorf("%d messages are missing, such as %s; want the poison only", n, example)
	}
	r.checkOrder(t)
	_, dead := letters.snapshot()
	if len(dead) != 1 || !strings.Contains(string(dead[0].Data), strconv.Itoa(poison)) {
		t.Errorf("%d dead letters, want one about the poison: %s", len(dead), describe(dead))
	}
	for _, d := range g.status(t).Destinations {
		if d.Name == "cloud" && d.Stream == "events" && (d.Ledger.Dead != 1 || d.Ledger.Delivered != d.Ledger.Appended-1) {
			t.Errorf("the ledger says %+v", d.Ledger)
		}
	}
	g.checkLedgers(t)
	arrivals, _ := r.snapshot()
	t.Logf("%d messages stored while the destination was away and refused; all but the poison arrived %.1f s after it was back, %d deliveries, %d requests refused, 1 dead letter",
		publishers*each, drained.Seconds(), len(arrivals), r.refused)
}

func describe(items []item) string {
	var b strings.Builder
	for _, i := range items[:min(len(items), 5)] {
		b.WriteString(i.ID + " " + string(i.Data) + "\n")
	}
	return b.String()
}
