package main

import (
	"testing"
	"time"
)

func TestATimeIsGivenAsSuchOrAsHowLongAgo(t *testing.T) {
	now := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "now": now, "2h": now.Add(-2 * time.Hour), "7d": now.AddDate(0, 0, -7),
		"2025-02-28T12:00:00Z": now.AddDate(0, 0, -1), "2025-02-28T13:00:00+01:00": now.AddDate(0, 0, -1),
	} {
		if got, err := when(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-2h", "2", "2025-02-28"} {
		if got, err := when(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
