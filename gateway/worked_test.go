package gateway

import (
	"runtime"
	"testing"
	"time"
)

// Else a rule would be disabled because of what another program does.
func TestOnlyWorkCountsAgainstARule(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := worked()
	time.Sleep(100 * time.Millisecond)
	if d := time.Duration(worked() - before); d > 50*time.Millisecond {
		t.Errorf("a sleep of 100 ms counts as %v", d)
	}
	for n := 0; worked()-before < int64(20*time.Millisecond); n++ {
		if n > 1e9 {
			t.Fatal("work does not count")
		}
	}
}
