package storage

import (
	"testing"
	"time"

	"holdfast/gateway/event"
)

// A source that commits by itself, one append after the other and without a
// pause, must not keep the committer from retention and upkeep.
func TestTheCommitterHasItsTurnBetweenTheAppendsOfOneSource(t *testing.T) {
	stamp := func([]event.Event) event.Time { return 0 }
	for name, full := range map[string]bool{"because a stream is full": true, "because it is time to": false} {
		q := newQueue(1 << 20)
		if q.putFirst(&request{}, stamp) == nil {
			t.Fatal("nobody else commits, and yet a source cannot")
		}
		idle, turn := make(chan time.Time, 1), make(chan struct{})
		take := func() { q.take(time.Hour, idle); close(turn) }
		if !full {
			idle <- time.Now()
			go take()
			eventually(t, func() bool {
				q.mu.Lock()
				defer q.mu.Unlock()
				return q.waited && len(idle) == 0
			}, "the committer waits for the source")
		}
		q.release(full)
		if q.putFirst(&request{}, stamp) != nil {
			t.Errorf("%s: the source was faster than the committer", name)
			continue
		}
		if full {
			go take()
		}
		<-turn
		q.release(false)
		if q.putFirst(&request{}, stamp) == nil {
			t.Errorf("%s: the committer has had its turn, and the source cannot go on", name)
		}
	}
}
