package ops

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLettersTravelThroughTheSocketAsTheyAre(t *testing.T) {
	at := time.Date(2025, 3, 1, 12, 0, 0, 5, time.UTC)
	want := []Letter{
		{ID: 7, Reason: "refused", Error: "400", Destination: "cloud", Stream: "events", Offset: 12, Attempts: 3, First: at, Last: at.Add(time.Second), Topic: "a/b", Key: "a/b", Event: []byte(`{"id":"x"}`)},
		{ID: 9, Reason: "rule_failed", Rule: "hot", Event: []byte(`{}`)},
	}
	f := &fake{dead: want}
	_, _, c := start(t, f)
	q := LetterQuery{ID: 3, Stream: "events", Destination: "cloud", Rule: "r", Reason: "refused", Topic: "a/#", Since: at, Until: at.Add(time.Hour), Limit: 4}
	var got []Letter
	if err := c.Letters(t.Context(), q, func(l Letter) error { got = append(got, l); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("letters (-sent +received):\n%s", diff)
	}
	if diff := cmp.Diff(q, f.letters); diff != "" {
		t.Errorf("the query (-asked +arrived):\n%s", diff)
	}
	f.tailErr = errors.New("the log is closed")
	if err := c.Letters(t.Context(), q, func(Letter) error { return nil }); err == nil || err.Error() != "the log is closed" {
		t.Errorf("a listing that was cut short ends with %v", err)
	}
	f.dead = nil
	if err := c.Letters(t.Context(), q, func(Letter) error { return nil }); err == nil || err.Error() != "the log is closed" {
		t.Errorf("a listing that did not begin ends with %v", err)
	}
}

func TestNobodySettlesEveryLetterByForgettingTheFilter(t *testing.T) {
	f := &fake{}
	_, _, c := start(t, f)
	if _, err := c.PurgeLetters(t.Context(), LetterQuery{}, false); err == nil || !strings.Contains(err.Error(), "say all") {
		t.Errorf("a purge without a filter got %v", err)
	}
	if r, err := c.PurgeLetters(t.Context(), LetterQuery{}, true); err != nil || r.Settled != 3 {
		t.Errorf("a purge of all got %+v, %v", r, err)
	}
	r, err := c.RetryLetters(t.Context(), LetterQuery{Destination: "cloud"}, false)
	if want := (LetterResult{Selected: 3, Settled: 2, Skipped: 1, Why: "a rule failed on it"}); err != nil || r != want || f.letters.Destination != "cloud" {
		t.Errorf("a retry got %+v, %v for %+v", r, err, f.letters)
	}
	f.tailErr = errors.New("the store has failed")
	if _, err := c.RetryLetters(t.Context(), LetterQuery{ID: 1}, false); err == nil || err.Error() != "the store has failed" {
		t.Errorf("a retry that failed got %v", err)
	}
}

func TestARecountIsFollowedToItsEnd(t *testing.T) {
	f := &fake{}
	_, _, c := start(t, f)
	if _, err := c.verification(t.Context()); err == nil || !strings.Contains(err.Error(), "has not been recounted") {
		t.Errorf("without a recount: %v", err)
	}
	var seen []uint64
	v, err := c.Verify(t.Context(), time.Millisecond, func(v Verification) { seen = append(seen, v.Done) })
	if err != nil || v.Running() || v.Differences() != 1 || v.Streams[0].Differences[0] != "offset 3 is missing" {
		t.Errorf("%+v, %v", v, err)
	}
	if diff := cmp.Diff([]uint64{5, 10}, seen); diff != "" {
		t.Errorf("progress:\n%s", diff)
	}
}
