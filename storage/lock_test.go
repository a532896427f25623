package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An empty .mem file is what a power cut leaves, and what Badger has for a
// moment when it begins a file: the second process must not take the one for
// the other.
func TestAStoreThatIsInUseIsLeftAloneAndSaysByWhom(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	fresh := filepath.Join(dir, databaseDir, "99999.mem")
	if err := os.WriteFile(fresh, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: dir, Gateway: "second", Probe: func(string) error { t.Error("it was probed"); return nil }})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("the store in %s is in use by another holdfast (process %d): ", dir, os.Getpid())) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(Options{Dir: dir, Gateway: "second"}); err != nil {
		t.Fatalf("after it was closed: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// Badger's lock alone says the same: a tool may have it, or an older holdfast.
func TestAStoreThatOnlyBadgerHasLockedIsInUseToo(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	if err := l.lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir, Gateway: "second"}); !errors.Is(err, ErrInUse) || strings.Contains(err.Error(), "irectory lock") {
		t.Errorf("got %v", err)
	}
}
