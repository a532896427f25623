//go:build prove

package prove

import (
	"testing"
	"time"

	"holdfast/gateway/bench"
)

func TestThreeGigabytesThroughAStreamOf256MiBStayWithinItsShareOfTheDisk(t *testing.T) {
	const total, size, limit = 3 << 30, 16 << 10, 256 << 20
	const bound = limit*5/4 + 64<<20
	r := newReceiver(t) // down: nothing is delivered, all is dropped
	g := newGateway(t, "", `
streams: {events: {max: 256MiB, keep: 24h}}
destinations:
  cloud: {type: http, url: "`+r.url()+`", from: [events], start: oldest}
`)
	g.mustStart(t)
	highest := peak(50*time.Millisecond, func() int64 { return usage(g.store) })
	res, err := bench.Run(t.Context(), bench.Load{Addr: g.mqtt, Clients: 4, Window: 32, Size: size, QoS: 1,
		Duration: 5 * time.Minute, Messages: total / size, Topic: "vib/%d", ClientID: "prove-", Version: 4})
	top := highest()
	if err != nil {
		t.Fatal(err)
	}
	if res.Failed() || res.Sent < total/size {
		t.Errorf("%d of %d messages sent, %d refused, %d unacknowledged: %v", res.Sent, total/size, res.Refused, res.Unacknowledged, res.Errors)
	}
	if top > bound {
		t.Errorf("the store took up to %d MiB of disk, more than %d MiB", top>>20, bound>>20)
	}
	s := g.status(t)
	for _, d := range s.Destinations {
		if d.Ledger.Dropped == 0 || d.Ledger.Appended < total/size {
			t.Errorf("the ledger does not tell what retention dropped: %+v", d.Ledger)
		}
	}
	g.checkLedgers(t)
	t.Logf("%d MiB through a stream of %d MiB: at most %d MiB of disk (bound %d), %.0f MiB/s, longest acknowledgement %v",
		total>>20, limit>>20, top>>20, bound>>20, res.PerSecond*size/(1<<20), res.Max.Round(time.Millisecond))
	begin := time.Now()
	g.kill()
	d := g.mustStart(t)
	t.Logf("start after kill -9: %v, store %d MiB %v later", d.Round(time.Millisecond), usage(g.store)>>20, time.Since(begin).Round(time.Millisecond))
}
