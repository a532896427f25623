package devices

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

// commits is a log that answers when the test wants.
type commits struct {
	values  []string
	answers []func(error)
}

func (c *commits) emit(events []event.Event, done func(error)) error {
	for _, e := range events {
		c.values = append(c.values, string(e.Payload))
	}
	c.answers = append(c.answers, done)
	return nil
}

func TestAnOlderReadingNeverFollowsANewerOne(t *testing.T) {
	refused := errors.New("the log is full")
	for _, c := range []struct {
		name             string
		first, second    error // of the commits of readings 1 and 2
		want             []string
		captured, missed uint64
	}{
		{"both reach the disk", nil, nil, []string{"1", "2"}, 2, 0},
		{"the first is refused", refused, nil, []string{"1", "2"}, 1, 1},
		{"the second is refused", nil, refused, []string{"1", "2", "2"}, 2, 0},
		{"both are refused", refused, refused, []string{"1", "2", "2"}, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				h, log := newHub(), new(commits)
				f := newFeed("a", "d", "a", nil, h)
				f.status.State = Online
				go h.run(ctx, log.emit)
				for n := range 2 {
					if err := f.Put(time.Now(), Reading{Name: "n", Value: float64(n + 1)}); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				log.answers[0](c.first)
				log.answers[1](c.second)
				time.Sleep(2 * refusalPause)
				synctest.Wait()
				for _, done := range log.answers[2:] {
					done(nil)
				}
				var want []string
				for _, n := range c.want {
					want = append(want, fmt.Sprintf(`{"value":%s}`, n))
				}
				if diff := cmp.Diff(want, log.values); diff != "" {
					t.Error(diff)
				}
				if s := f.Status(); s.Captured != c.captured || s.Missed != c.missed {
					t.Errorf("captured %d, missed %d; want %d, %d", s.Captured, s.Missed, c.captured, c.missed)
				}
				cancel()
			})
		})
	}
}

func TestWhatIsRefusedAfterTheEndIsCountedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		h, log := newHub(), new(commits)
		f := newFeed("a", "d", "a", nil, h)
		go h.run(ctx, log.emit)
		_ = f.Put(time.Now(), Reading{Name: "n"})
		synctest.Wait()
		cancel()
		synctest.Wait()
		log.answers[0](errors.New("closed"))
		if s := f.Status(); s.Missed != 1 || s.Captured != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPausesGrowToHalfAMinute(t *testing.T) {
	for failures, most := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: time.Second, 3: 2 * time.Second, 6: 16 * time.Second, 7: 30 * time.Second, 1000: 30 * time.Second,
	} {
		for range 100 {
			if d := pause(failures); d > most || d < most/2 {
				t.Fatalf("after %d failures: %v, want up to %v", failures, d, most)
			}
		}
	}
}
