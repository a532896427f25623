package bench

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// SyncWrite is how many bytes one write of [Syncs] has: about one small
// commit.
const SyncWrite = 256

// Syncs writes SyncWrite bytes after one another to a preallocated file in
// dir, n times, with an fdatasync after each, and returns how long each write
// with its sync took. It is the floor for the acknowledgement of a single
// message on that disk. The file is removed.
func Syncs(ctx context.Context, dir string, n int) (*Latencies, error) {
	f, err := os.CreateTemp(dir, "fdatasync-*")
	if err != nil {
		return nil, fmt.Errorf("measure fdatasync: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	// Written through once, so that no sync has to allocate or convert blocks.
	b := make([]byte, SyncWrite)
	for range n {
		if _, err := f.Write(b); err != nil {
			return nil, fmt.Errorf("measure fdatasync: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("measure fdatasync: %w", err)
	}
	l := &Latencies{}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		digits(b, uint64(i))
		start := time.Now()
		if _, err := f.WriteAt(b, int64(i)*SyncWrite); err != nil {
			return nil, fmt.Errorf("measure fdatasync: %w", err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return nil, fmt.Errorf("measure fdatasync: %w", err)
		}
		l.Add(time.Since(start), 1)
	}
	return l, nil
}
