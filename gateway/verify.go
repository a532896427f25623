package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/gateway/event"
	"holdfast/gateway/ops"
	"holdfast/storage"
)

// verifier recounts the ledger from the log, one recount at a time.
type verifier struct {
	log     *storage.Log
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu  sync.Mutex
	now *ops.Verification // the newest; nil if there was none
}

func newVerifier(log *storage.Log) *verifier {
	v := &verifier{log: log}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	return v
}

// Verify begins a recount, unless one is under way.
func (g *Gateway) Verify() error { return g.verifier.begin() }

// Verification says how far the newest recount is.
func (g *Gateway) Verification() (ops.Verification, bool) {
	v := g.verifier
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.now == nil {
		return ops.Verification{}, false
	}
	all := *v.now
	all.Streams = append([]ops.VerifyStream(nil), all.Streams...)
	return all, true
}

func (v *verifier) begin() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ctx.Err() != nil {
		return errors.New("verify: the gateway is stopping")
	}
	if v.now != nil && v.now.Running() {
		return nil
	}
	now := &ops.Verification{Started: time.Now().UTC()}
	for _, s := range v.log.Streams() {
		first, durable, _ := s.Bounds()
		now.Total += durable - first
	}
	v.now = now
	v.running.Go(func() {
		err := v.run(now)
		v.mu.Lock()
		defer v.mu.Unlock()
		now.Finished = time.Now().UTC()
		if err != nil {
			now.Error = "the recount was not finished: " + err.Error()
		}
	})
	return nil
}

// close ends a recount that is under way.
func (v *verifier) close() {
	v.mu.Lock()
	v.cancel()
	v.mu.Unlock()
	v.running.Wait()
}

func (v *verifier) run(now *ops.Verification) error {
	before := uint64(0)
	for _, s := range v.log.Streams() {
		first, _, _ := s.Bounds()
		counts, said, each := map[[2]string]uint64{}, openLetters(v.log), (func([]event.Event))(nil)
		if s.Name() == streamDead {
			each = func(events []event.Event) { countLetters(s, events, counts) }
		}
		r, err := s.Recount(v.ctx, each, func(at uint64) {
			v.mu.Lock()
			now.Done = min(before+at-min(first, at), now.Total)
			v.mu.Unlock()
		})
		if err != nil {
			return err
		}
		if s.Name() == streamDead {
			r.Differences = append(r.Differences, v.compareLetters(s, counts, said)...)
		}
		v.mu.Lock()
		before += r.Next - r.First
		now.Streams = append(now.Streams, ops.VerifyStream{
			Name: r.Stream, First: r.First, Next: r.Next, Events: r.Events, Damaged: r.Damaged, Removed: r.Removed,
			Differences: append([]string{}, r.Differences...),
		})
		v.mu.Unlock()
	}
	v.mu.Lock()
	now.Done = now.Total
	v.mu.Unlock()
	return nil
}

// countLetters counts the open letters by destination and stream.
func countLetters(dead *storage.Stream, events []event.Event, counts map[[2]string]uint64) {
	for i := range events {
		if _, l := readLetter(&events[i]); l.destination != "" && events[i].Cause != nil && dead.Open(events[i].Offset) {
			counts[[2]string{l.destination, events[i].Cause.Stream}]++
		}
	}
}

// openLetters is how many open letters each cursor's ledger speaks of. Letters
// that are refused themselves become no others.
func openLetters(log *storage.Log) map[[2]string]uint64 {
	all := map[[2]string]uint64{}
	for _, s := range log.Streams() {
		if s.Name() == streamDead {
			continue
		}
		for name, c := range s.Cursors() {
			all[[2]string{name, s.Name()}] = c.Ledger.Dead - min(c.Purged, c.Ledger.Dead)
		}
	}
	return all
}

// compareLetters compares the letters that were counted with what the ledgers
// said before and say now: letters may have come and gone meanwhile. Retention
// does not know whose the letters are that it takes, so they may be anybody's.
func (v *verifier) compareLetters(dead *storage.Stream, counts, before map[[2]string]uint64) (differences []string) {
	lost := dead.Status().Letters.Lost
	for who, now := range openLetters(v.log) {
		least, most := min(before[who], now), max(before[who], now)
		if n := counts[who]; n > most || n+lost < least {
			differences = append(differences, fmt.Sprintf("the ledger of %s in stream %s speaks of %d open dead letters, and there are %d", who[0], who[1], now, n))
		}
	}
	return differences
}
