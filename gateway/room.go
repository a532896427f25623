package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdfast/storage"
)

// lookForRoomEvery is how often the gateway looks whether the disk or a stream
// is full.
const lookForRoomEvery = time.Second

// shortage is a disk or a stream without room.
type shortage struct {
	does   string // what is done about it, without figures: other words are news
	reason string // as the status shows it
	last   time.Time
}

// roomWatch logs when room runs out and when there is some again, for those
// who read the log and not the status.
type roomWatch struct {
	log   *slog.Logger
	short map[string]shortage // by what has no room

	stop context.CancelFunc
	done sync.WaitGroup
}

func (g *Gateway) watchRoom() *roomWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &roomWatch{log: g.logger, short: map[string]shortage{}, stop: cancel}
	w.done.Go(func() {
		tick := time.NewTicker(lookForRoomEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				w.tell(g.shortages(), now)
			}
		}
	})
	return w
}

func (w *roomWatch) close() {
	w.stop()
	w.done.Wait()
}

// tell logs what differs from the last time. A shortage is over when it has
// not been seen for a while: one that comes and goes is one line.
func (w *roomWatch) tell(found map[string]shortage, now time.Time) {
	for what, s := range found {
		if s.does != w.short[what].does {
			w.log.Warn(s.reason)
		}
		s.last = now
		w.short[what] = s
	}
	for what, s := range w.short {
		if now.Sub(s.last) >= recent {
			w.log.Info(what + " has room again")
			delete(w.short, what)
		}
	}
}

// shortages returns what has no room now: "the disk", "stream events".
func (g *Gateway) shortages() map[string]shortage {
	all := map[string]shortage{}
	if s := g.log.Stats(); s.Full {
		all["the disk"] = shortage{does: "refuses", reason: g.diskFull(s.Free)}
	}
	for _, stream := range g.log.Streams() {
		s := stream.Status()
		if does, _ := whenFull(&s); does != "" {
			all["stream "+s.Name] = shortage{does: does, reason: fullness(&s, stream.Cursors())}
		}
	}
	return all
}

func (g *Gateway) diskFull(free int64) string {
	return fmt.Sprintf("the disk is full: %d MiB are free in %s and sources are refused; make room or lower max of the streams",
		free>>20, g.config.Load().Store.Path)
}

// whenFull says what a stream does now because it is full, and how often; or
// nothing.
func whenFull(s *storage.StreamStatus) (does, count string) {
	switch {
	case s.Policy == storage.Reject && (s.Full || time.Since(s.RefusedAt) < recent):
		return "refuses sources", fmt.Sprintf("%d events so far", s.Refused)
	case s.Policy == storage.Block && s.Full:
		return "makes sources wait", fmt.Sprintf("%d now", s.Waiting)
	case time.Since(s.DroppedAt) < recent:
		return "drops its oldest events", fmt.Sprintf("%d so far", s.Dropped)
	}
	return "", ""
}
