package storage

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func newNoise() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// damageManifest makes Badger refuse to open the store.
func damageManifest(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, databaseDir, "MANIFEST")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0xff
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// In the newest value log file Badger takes the first damage for the torn end
// of the last write and gives up what follows; it is counted all the same.
func TestADamagedBlockCostsOnlyTheEventsInIt(t *testing.T) {
	dir := t.TempDir()
	small := func(o *Options) { o.TailBytes = 1 }
	l := open(t, dir, small)
	random := newNoise()
	const batches, size = 320, 4
	l.Stream("events").Cursor("cloud", StartOldest) // so that all of it is kept
	for range batches {                             // more than one value log file
		appendNow(t, l, "events", noise(random, size, 15<<10)...)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, databaseDir, "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	if len(logs) < 2 {
		t.Fatalf("%d value log files, want two at least", len(logs))
	}
	b, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	b[1<<20] ^= 0xff
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, small)
	c := l.Stream("events").Cursor("cloud", StartOldest)
	delivered := 0
	for ledger(t, l, "events", "cloud").Pending > 0 {
		span := nextSpan(t, c, 100)
		delivered += len(span.Events)
		deliver(t, c, span)
	}
	got := ledger(t, l, "events", "cloud").Ledger
	if delivered != batches*size-size || got.Damaged != size || l.Stream("events").Status().Damaged != size {
		t.Errorf("one block of %d events is damaged: %d of %d were delivered, ledger %+v", size, delivered, batches*size, got)
	}
}
