package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrInUse is wrapped by the error of Open when another process has the store
// open.
var ErrInUse = errors.New("in use by another holdfast")

// lockStore locks the store in dir until the file that it returns is closed,
// at the latest by the end of the process. Badger has a lock of its own, but
// before that is taken Open makes room and tidies up, which must not happen to
// a store that is at work.
func lockStore(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		return d, nil
	}
	_ = d.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, inUse(dir)
	}
	return nil, fmt.Errorf("lock the store in %s: %w", dir, err)
}

// inUse says who has the store in dir open, as far as that is known.
func inUse(dir string) error {
	who := ""
	if b, err := os.ReadFile(filepath.Join(dir, databaseDir, "LOCK")); err == nil { // Badger writes it
		pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
		if err == nil && !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			who = fmt.Sprintf(" (process %d)", pid)
		}
	}
	return fmt.Errorf("the store in %s is %w%s: stop that one first, or give this one a store of its own with store: {path: …}", dir, ErrInUse, who)
}
