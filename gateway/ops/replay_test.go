package ops

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// replayer is a gateway that knows replays and one removed destination.
type replayer struct {
	fake
	asked   ReplayQuery
	replays []ReplayStatus
}

func (r *replayer) StartReplay(_ context.Context, q ReplayQuery) (ReplayStatus, error) {
	if q.Destination != "cloud" {
		return ReplayStatus{}, errors.New("there is no destination")
	}
	r.asked = q
	r.replays = append(r.replays, ReplayStatus{ID: 7, Destination: q.Destination, State: ReplayRunning})
	return r.replays[0], nil
}

func (r *replayer) Replays() []ReplayStatus { return r.replays }

func (r *replayer) CancelReplay(_ context.Context, id uint64) error {
	if id != 7 {
		return errors.New("there is no such replay")
	}
	r.replays = nil
	return nil
}

func (r *replayer) ForgetDestination(_ context.Context, name string) error {
	if name != "old one" {
		return errors.New("nothing is known of it")
	}
	return nil
}

func TestTheCommandLineStartsListsAndCancelsReplays(t *testing.T) {
	r := &replayer{}
	_, _, c := start(t, r)
	ctx := t.Context()
	if all, err := c.Replays(ctx); err != nil || all == nil || len(all) != 0 {
		t.Errorf("without replays: %v, %v", all, err)
	}
	q := ReplayQuery{Stream: "events", Destination: "cloud", Topics: []string{"plant/#"}, From: time.Unix(1e9, 0).UTC(), ToOffset: 9, Rate: 10}
	st, err := c.StartReplay(ctx, q)
	if err != nil || st.ID != 7 {
		t.Errorf("start: %+v, %v", st, err)
	}
	if diff := cmp.Diff(q, r.asked); diff != "" {
		t.Error(diff)
	}
	if all, err := c.Replays(ctx); err != nil || len(all) != 1 || all[0].State != ReplayRunning {
		t.Errorf("list: %v, %v", all, err)
	}
	if err := c.CancelReplay(ctx, 8); err == nil || err.Error() != "there is no such replay" {
		t.Errorf("cancelling another one: %v", err)
	}
	if err := c.CancelReplay(ctx, 7); err != nil {
		t.Error(err)
	}
	if _, err := c.StartReplay(ctx, ReplayQuery{Destination: "x"}); err == nil {
		t.Error("a replay to nowhere was started")
	}
	if err := c.ForgetDestination(ctx, "old one"); err != nil {
		t.Error(err)
	}
	if err := c.ForgetDestination(ctx, "new"); err == nil {
		t.Error("a destination that is not known was forgotten")
	}
}
