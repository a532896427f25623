//go:build prove

package prove

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"holdfast/gateway/bench"
)

// MQTT 3.1.1 section 4.3.3: the receiver keeps the packet identifier from
// PUBREC until PUBREL, so that a PUBLISH sent again is no second message.
func TestKill9BetweenPubrecAndPubrelLeavesExactlyOneEvent(t *testing.T) {
	g := newGateway(t, "", "streams: {events: {max: 64MiB, keep: 1h}}\n")
	g.mustStart(t)
	const id = 7
	connect := func() net.Conn {
		t.Helper()
		c, _, err := bench.Dial(t.Context(), g.mqtt, bench.Login{ClientID: "exactly", Version: 4, Keep: true})
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	exchange := func(c net.Conn, what string, out, want []byte) {
		t.Helper()
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s is answered with %x (%v), want %x", what, got, err, want)
		}
	}
	publish := func(n int, dup bool) []byte {
		return bench.AppendPublish(nil, 4, "plant/0/temp", fmt.Appendf(nil, `{"n":%d}`, n), 2, id, dup)
	}
	pubrec, pubrel, pubcomp := []byte{0x50, 2, 0, id}, []byte{0x62, 2, 0, id}, []byte{0x70, 2, 0, id}

	const rounds = 10
	for n := range rounds {
		c := connect()
		exchange(c, "PUBLISH", publish(n, false), pubrec)
		g.kill()
		c.Close()
		g.mustStart(t)
		c = connect()
		exchange(c, "PUBLISH sent again", publish(n, true), pubrec)
		g.kill()
		c.Close()
		g.mustStart(t)
		c = connect()
		exchange(c, "PUBREL", pubrel, pubcomp)
		c.Close()
	}
	for _, s := range g.status(t).Streams {
		if s.Name == "events" && s.Appended != rounds {
			t.Errorf("%d messages at QoS 2, each sent twice with a kill -9 between, are %d events", rounds, s.Appended)
		}
	}
	t.Logf("%d messages at QoS 2 through %d kills between PUBREC and PUBREL: each is one event", rounds, 2*rounds)
}
