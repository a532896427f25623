package storage

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/gateway/event"
)

var long = flag.Bool("long", false, "run the long forms of the tests: gigabytes instead of megabytes")

// diskUsage is what du says of a folder, in bytes.
func diskUsage(t testing.TB, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			n += blocks(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// noise returns events that no codec makes smaller.
func noise(r *rand.ChaCha8, n, size int) []event.Event {
	events := make([]event.Event, n)
	for i := range events {
		events[i] = event.Event{Topic: "vib/1", Source: "mqtt", Client: "noise", Payload: make([]byte, size)}
		_, _ = r.Read(events[i].Payload)
	}
	return events
}

func TestAFullStreamDropsTheOldestAndTheDiskStaysBounded(t *testing.T) {
	limit, total := int64(64<<20), int64(512<<20)
	if *long {
		limit, total = 256<<20, 3<<30
	}
	dir := t.TempDir()
	l := open(t, dir, func(o *Options) {
		o.Streams = []StreamOptions{{Name: "events", Max: limit, Keep: 24 * time.Hour}, {Name: "slow", Max: limit / 4, Keep: time.Hour}}
	})
	cursor := l.Stream("events").Cursor("cloud", StartOldest)
	bound := limit + limit/4 + limit/4 + limit/16 + 64<<20 // both streams × 1.25, and 64 MB
	var worst int64
	random := newNoise()
	const size, batch = 16 << 10, 16
	pauses := time.Duration(0)
	window := make(chan struct{}, 8)
	for written, i := int64(0), 0; written < total; i++ {
		stream := "events"
		if i%50 == 49 {
			stream = "slow"
		}
		window <- struct{}{}
		begin := time.Now()
		err := l.Append(context.Background(), []Append{{l.Stream(stream), noise(random, batch, size)}}, AppendOptions{}, func(err error) {
			if err != nil {
				t.Error(err)
			}
			pauses = max(pauses, time.Since(begin))
			<-window
		})
		if err != nil {
			t.Fatal(err)
		}
		written += size * batch
		if i%64 == 0 {
			if used := diskUsage(t, dir); used > worst {
				worst = used
				if used > bound {
					t.Fatalf("after %d MB the store takes %d MB of disk, more than %d MB", written>>20, used>>20, bound>>20)
				}
			}
		}
	}
	for range cap(window) {
		window <- struct{}{}
	}
	l.reclaimNow(t) // from now on nothing changes
	s := l.Stream("events")
	first, _, next := s.Bounds()
	c := s.Cursors()["cloud"]
	if c.Ledger.Dropped != first-1 || c.Next != first || c.Pending != next-first {
		t.Errorf("ledger %+v, next %d, pending %d; want dropped %d, next %d, pending %d", c.Ledger, c.Next, c.Pending, first-1, first, next-first)
	}
	if got := readAll(t, l, "events", first); uint64(len(got)) != next-first {
		t.Errorf("%d events can be read, want %d", len(got), next-first)
	}
	t.Logf("%d MB through %d MB: at most %d MB of disk, longest acknowledgement %v", total>>20, limit>>20, worst>>20, pauses)

	// Drained, nothing is kept beyond keep.
	for {
		st := s.Cursors()["cloud"]
		if st.Pending == 0 {
			break
		}
		deliver(t, cursor, nextSpan(t, cursor, 1000))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, func(o *Options) {
		o.Streams = []StreamOptions{{Name: "events", Max: limit, Keep: 24 * time.Hour}, {Name: "slow", Max: limit / 4, Keep: time.Hour}}
	})
	if first2, _, next2 := l.Stream("events").Bounds(); first2 < first || next2 != next {
		t.Errorf("after a restart the stream is [%d, %d), was [%d, %d)", first2, next2, first, next)
	}
}
