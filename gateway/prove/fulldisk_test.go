//go:build prove

package prove

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAFullDiskIsRefusedNotAcknowledgedAndSpaceBringsTheGatewayBack(t *testing.T) {
	d := newDisk(t, 512)
	hog := filepath.Join(d.path, "hog") // half of the disk, given back at the end
	if err := os.WriteFile(hog, make([]byte, 256<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t) // down until the end: nothing is ever delivered before
	store := filepath.Join(d.path, "store")
	g := newGateway(t, store, `
streams: {events: {max: 900MiB, keep: 24h}}
destinations:
  cloud: {type: http, url: "`+r.url()+`", from: [events], start: oldest, batch: {events: 200, bytes: 1MiB, linger: 20ms}}
`)
	g.mustStart(t)

	// Filled from outside: a file takes all the space there is.
	f := publish(4, func(i int) *publisher {
		return &publisher{addr: g.mqtt, number: i, window: 20, rate: 200, version: byte(4 + i%2), pad: noisePad(i, 4000)}
	})
	eventually(t, 10*time.Second, func() bool { return f.acked() > 200 }, "messages are acknowledged while there is space")
	filler := filepath.Join(d.path, "filler")
	fill(t, filler)
	at := stalls(t, f, "an outside file has filled the disk")
	t.Logf("full by a file: stalled at %d acknowledged, %d KiB free", at, d.free(t)>>10)
	lives(t, g)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() bool { return f.acked() > at+200 }, "messages are acknowledged again, after the file is gone")

	// Filled by the stream, which may grow larger than the disk.
	for _, p := range f.publishers {
		p.stop()
	}
	if err := f.wait(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	big := publish(4, func(i int) *publisher {
		return &publisher{addr: g.mqtt, number: 10 + i, window: 20, version: byte(4 + i%2), pad: noisePad(i, 16000)}
	})
	at = stalls(t, big, "the stream has filled the disk")
	t.Logf("full by the stream: stalled at %d acknowledged of 16 kB, %d KiB free", at, d.free(t)>>10)
	lives(t, g)

	// A crash on the full disk, and starts on it: no loop of crashes.
	fill(t, filler)
	g.kill()
	for range 2 {
		g.mustStart(t)
		lives(t, g)
		g.kill()
	}
	g.mustStart(t)
	if n := big.acked(); n > at+200 {
		t.Errorf("%d messages were acknowledged on a full disk", n-at)
	}
	at = big.acked()
	os.Remove(filler)
	os.Remove(hog)
	eventually(t, 20*time.Second, func() bool { return big.acked() > at+200 }, "messages are acknowledged again, after space was made, without a restart")
	if err := big.finish(30 * time.Second); err != nil {
		t.Fatal(err)
	}

	if err := r.up(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 90*time.Second, func() bool { a, _ := r.missing(f); b, _ := r.missing(big); return a+b == 0 }, "all that was acknowledged arrives")
	r.checkOrder(t)
	g.checkLedgers(t)
	t.Logf("%d messages acknowledged around a disk that was full three times: all arrived", f.acked()+big.acked())
}

// stalls waits until no message has been acknowledged for two seconds, and
// returns how many were before.
func stalls(t testing.TB, f *fleet, why string) int {
	t.Helper()
	last, since, begin := f.acked(), time.Now(), time.Now()
	for time.Since(since) < 2*time.Second {
		if time.Since(begin) > 60*time.Second {
			t.Fatalf("after 60 s %s, and messages are still acknowledged", why)
		}
		time.Sleep(50 * time.Millisecond)
		if n := f.acked(); n != last {
			last, since = n, time.Now()
		}
	}
	return last
}

// lives fails the test unless the process runs and answers for a second.
func lives(t testing.TB, g *process) {
	t.Helper()
	for range 5 {
		if !g.alive() {
			t.Fatalf("the gateway ended on a full disk: %v\n%s", g.err, g.lastLog())
		}
		if err := g.answers(); err != nil {
			t.Errorf("the gateway does not answer on a full disk: %v", err)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// fill writes until the disk is full.
func fill(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10} {
		for b := bytes.Repeat([]byte{'x'}, size); ; {
			if _, err := f.Write(b); err != nil {
				break
			}
		}
	}
	f.Sync()
}

// noisePad returns n letters that do not compress.
func noisePad(seed, n int) []byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
	b, x := make([]byte, n), uint64(seed+1)*0x9E3779B97F4A7C15
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = letters[x>>40&63]
	}
	return b
}
