package storage

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/gateway/event"
)

func TestAScannerReadsWhatItWantsAndSharesBlocksWithOthers(t *testing.T) {
	dir := t.TempDir()
	// The tail is small, so that most must come from the disk.
	l := open(t, dir, func(o *Options) { o.TailBytes, o.CacheBytes = 1, 1<<20 })
	const n = 3000
	for i := 0; i < n; i += 100 {
		var events []event.Event
		for k := range 100 {
			events = append(events, event.Event{Topic: fmt.Sprintf("t/%d", (i+k)/500), Payload: fmt.Append(nil, i+k, strings.Repeat(" ", 200))})
		}
		appendNow(t, l, "events", events...)
	}
	s := l.Stream("events")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			sc := s.Scanner(func(topic string) bool { return topic == "t/3" })
			got, seen := 0, 0
			for next := uint64(1); next <= n; {
				events, on, err := sc.Read(next)
				if err != nil || on <= next {
					t.Errorf("read at %d: next %d, %v", next, on, err)
					return
				}
				for i := range events {
					if events[i].Offset < next || events[i].Offset >= on {
						t.Errorf("offset %d in a read from %d to %d", events[i].Offset, next, on)
					}
					if events[i].Topic == "t/3" {
						got++
					}
					seen++
				}
				next = on
			}
			if got != 500 || seen > n/2 {
				t.Errorf("got %d events of the topic among %d, want 500 among few", got, seen)
			}
			if events, on, err := sc.Read(n + 1); len(events) > 0 || on != n+1 || err != nil {
				t.Errorf("behind the end: %d events, next %d, %v", len(events), on, err)
			}
		})
	}
	all.Wait()
	if l.cache.bytes > l.cache.limit || len(l.cache.blocks) == 0 {
		t.Errorf("the cache holds %d bytes in %d blocks, want up to %d", l.cache.bytes, len(l.cache.blocks), l.cache.limit)
	}
}

func TestAScannerPassesOverWhatRetentionHasRemoved(t *testing.T) {
	l := open(t, t.TempDir(), func(o *Options) { o.TailBytes = 1 })
	appendNow(t, l, "events", numbered(0, 10)...)
	s := l.Stream("events")
	s.mu.Lock()
	s.first = 6
	s.mu.Unlock()
	events, next, err := s.Scanner(nil).Read(1)
	if err != nil || len(events) != 5 || events[0].Offset != 6 || next != 11 {
		t.Errorf("got %d events, next %d, %v, want those from 6 on", len(events), next, err)
	}
}

func TestATableIsOnDiskInTheOrderOfThePuts(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	for i := range 200 { // more than one transaction holds
		entries := []Entry{{"counter", fmt.Append(nil, i)}, {fmt.Sprintf("key/%03d", i), []byte(strings.Repeat("x", 1000))}}
		if i > 0 {
			entries = append(entries, Entry{fmt.Sprintf("key/%03d", i-1), nil})
		}
		if err := l.Put("mqtt", entries, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	if err := l.Put("other", []Entry{{"counter", []byte("not this one")}}, true, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	var keys []string
	err := l.Table("mqtt", func(key string, value []byte) error {
		if key == "counter" {
			key += "=" + string(value)
		}
		keys = append(keys, key)
		return nil
	})
	if got := strings.Join(keys, " "); err != nil || got != "counter=199 key/199" {
		t.Errorf("the table holds %s, %v", got, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Put("mqtt", nil, false, nil); err == nil {
		t.Error("a closed log took entries")
	}
}

func TestTheAgeOfAnEventDoesNotJumpWithTheClock(t *testing.T) {
	start := time.Now().Add(-time.Minute)
	c := &clock{start: start, mono: time.Hour, boot: 7}
	for _, e := range []struct {
		what string
		event.Event
		want time.Duration
	}{
		{"of this boot, with any wall clock", event.Event{Boot: 7, Mono: 30 * time.Minute, Received: 5}, 31 * time.Minute},
		{"of the boot before, an hour before the log was opened", event.Event{Boot: 6, Mono: 99 * time.Hour, Received: event.At(start.Add(-time.Hour))}, 61 * time.Minute},
		{"from the future", event.Event{Boot: 6, Received: event.At(start.AddDate(30, 0, 0))}, time.Minute},
	} {
		if got := c.age(&e.Event); got < e.want || got > e.want+patience {
			t.Errorf("an event %s is %v old, want %v", e.what, got, e.want)
		}
	}
}

func TestAScannerOfRetainedMessagesReadsOnlyBlocksThatHaveSome(t *testing.T) {
	l := open(t, t.TempDir(), func(o *Options) { o.TailBytes = 1 })
	for i := range 50 {
		events := numbered(10*i, 10)
		events[3].Retain = i == 20
		appendNow(t, l, "events", events...)
	}
	s := l.Stream("events").RetainedScanner()
	read, found := 0, []uint64{}
	for next := uint64(1); next <= 490; {
		events, to, err := s.Read(next)
		if err != nil || to <= next {
			t.Fatalf("read at %d goes on at %d: %v", next, to, err)
		}
		read += len(events)
		for _, e := range events {
			if e.Retain {
				found = append(found, e.Offset)
			}
		}
		next = to
	}
	if len(found) != 1 || found[0] != 204 || read > 40 {
		t.Errorf("the retained messages are %v, want 204; %d events were read", found, read)
	}
}
