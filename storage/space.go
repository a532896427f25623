package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A full disk reaches a program that writes through memory maps as SIGBUS,
// not as an error. Three things keep Holdfast away from it: events are
// refused while less than the reserve is free; the files that Badger is about
// to write are allocated as soon as they exist; and a ballast file is given
// up at start when the disk was filled by somebody else.
type space struct {
	dir     string // Badger's files
	ballast string // path of the ballast file
	reserve int64
	full    atomic.Bool
	free    atomic.Int64
	checked time.Time // when the file system was asked
	warned  bool      // that no space could be set aside
	// allocated are the files whose blocks have been reserved.
	allocated map[string]bool
}

// freeBytes is what may still be written to dir's file system: by anybody, and
// by this process, which as root may use what is set aside for it.
func freeBytes(dir string) (anybody, own int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	anybody, own = int64(st.Bavail)*int64(st.Bsize), int64(st.Bavail)*int64(st.Bsize)
	if os.Geteuid() == 0 {
		own = int64(st.Bfree) * int64(st.Bsize)
	}
	return anybody, own, nil
}

// totalBytes is the size of dir's file system; 0 if that is not known.
func totalBytes(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0
	}
	return int64(st.Blocks) * int64(st.Bsize)
}

// check looks at the disk before a commit of n bytes and says whether events
// may be taken, and whether even the gateway's own writes must wait.
func (s *space) check(n int64) (events, own bool) {
	// With plenty of room the answer of a moment ago will do.
	now := time.Now()
	if n > 0 && now.Sub(s.checked) < 50*time.Millisecond && s.free.Add(-2*n) > 2*s.reserve {
		return true, true
	}
	s.checked = now
	free, reach, err := freeBytes(s.dir)
	if err != nil {
		return true, true // an unreadable file system shows itself at the write
	}
	s.free.Store(free)
	limit := s.reserve
	if s.full.Load() {
		limit += s.reserve / 4 // accept again only when there is some room
	}
	events = free-n >= limit
	s.full.Store(!events)
	return events, reach-n >= s.reserve/8
}

// prepare makes room to open the store: Badger creates files when it opens.
func (s *space) prepare() error {
	_, free, err := freeBytes(s.dir)
	if err != nil {
		return err
	}
	if free < 2*ballastBytes {
		_ = os.Remove(s.ballast)
		if _, free, err = freeBytes(s.dir); err != nil {
			return err
		}
	}
	if free < openBytes {
		return fmt.Errorf("%w: %d MiB are free and %d MiB are needed to open the store; make room, nothing in it is lost",
			ErrFull, free/mebibyte, openBytes/mebibyte)
	}
	return nil
}

// openBytes is what opening may write: a memtable that is flushed and the
// beginnings of new files. With less it would end in SIGBUS.
const openBytes = 6 * memTable

// keepBallast puts the ballast back when there is room for it.
func (s *space) keepBallast() {
	if _, err := os.Stat(s.ballast); err == nil || s.free.Load() < s.reserve+2*ballastBytes {
		return
	}
	f, err := os.OpenFile(s.ballast, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, ballastBytes); err != nil {
		_ = os.Remove(s.ballast)
	}
}

// allocate reserves the blocks of files that Badger has created since the
// last call, without changing their size.
func (s *space) allocate() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	present := make(map[string]bool, len(entries))
	var newest string // only the newest value log file is written to
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasSuffix(name, ".vlog"):
			present[name] = true
			newest = max(newest, name)
		case strings.HasSuffix(name, ".mem"):
			present[name] = true
		}
	}
	for name := range present {
		if s.allocated[name] {
			continue
		}
		size := int64(2 * memTable)
		if strings.HasSuffix(name, ".vlog") {
			if name != newest {
				s.allocated[name] = true
				continue
			}
			size = valueLogFile + 2*commitBytes
		}
		if free, _, err := freeBytes(s.dir); err != nil || free < size+s.reserve/2 {
			return fmt.Errorf("%d MiB are free, too few to set %d MiB aside", free/mebibyte, size/mebibyte)
		}
		if err := allocateFile(filepath.Join(s.dir, name), size); err != nil {
			return err
		}
		s.allocated[name] = true
	}
	for name := range s.allocated {
		if !present[name] {
			delete(s.allocated, name)
		}
	}
	return nil
}

func allocateFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // flushed and removed meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil // the file system cannot: the reserve alone must do
	}
	return err
}
