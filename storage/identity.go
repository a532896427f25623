package storage

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/gateway/event"
)

// identity is what makes this store this store. It is kept in the file
// identity.json beside Badger's files, with what tells a copy from the
// original: a store that was restored or cloned gets a new epoch, so that a
// backend does not take its new events for duplicates.
type identity struct {
	Epoch   uint64 `json:"epoch"`
	Inode   uint64 `json:"inode"`   // of the identity file itself: a copied file has another
	Machine string `json:"machine"` // machine-id
}

const identityFile = "identity.json"

// loadIdentity reads the identity of the store in dir, or makes one. renewed
// tells that the epoch is new although the store is not.
func loadIdentity(dir string) (id identity, renewed bool, err error) {
	path := filepath.Join(dir, identityFile)
	b, err := os.ReadFile(path)
	switch {
	case os.IsNotExist(err):
		id, err = writeIdentity(dir)
		return id, false, err
	case err != nil:
		return id, false, fmt.Errorf("read identity of the store: %w", err)
	}
	if json.Unmarshal(b, &id) == nil && id.Epoch != 0 && id.Inode == inode(path) && id.Machine == machineID() {
		return id, false, nil
	}
	id, err = writeIdentity(dir)
	return id, true, err
}

// writeIdentity gives the store in dir a new random epoch.
func writeIdentity(dir string) (identity, error) {
	var r [8]byte
	if _, err := rand.Read(r[:]); err != nil {
		return identity{}, fmt.Errorf("make an epoch: %w", err)
	}
	id := identity{Epoch: binary.LittleEndian.Uint64(r[:]) | 1, Machine: machineID()}
	path := filepath.Join(dir, identityFile)
	// The inode is known only once the file that will be renamed exists.
	err := writeFileDurably(path, func(tmp string) ([]byte, error) {
		id.Inode = inode(tmp)
		return json.Marshal(id)
	})
	return id, err
}

func inode(path string) uint64 {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

func machineID() string {
	b, _ := os.ReadFile("/etc/machine-id")
	return strings.TrimSpace(string(b))
}

// writeFileDurably replaces path: content, file and name are on disk at return.
func writeFileDurably(path string, content func(tmp string) ([]byte, error)) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer f.Close()
	b, err := content(tmp)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// clock stamps events. The wall clock may jump; time since boot does not, and
// uptime, the time since boot of all boots that this store has seen, is what
// ages are measured in: time without power does not count, and a jump of the
// wall clock expires nothing.
type clock struct {
	start  time.Time     // when this clock was made, with monotonic reading
	mono   time.Duration // time since boot at start
	uptime time.Duration // at start
	boot   uint32
}

// clockState is stored in the key "m boot" now and then.
type clockState struct {
	BootID string        `json:"boot_id"`
	Boot   uint32        `json:"boot"`
	Mono   time.Duration `json:"mono"`
	Uptime time.Duration `json:"uptime"`
}

func newClock(saved clockState) *clock {
	c := &clock{start: time.Now(), mono: sinceBoot(), boot: saved.Boot, uptime: saved.Uptime}
	if saved.BootID == bootID() && c.mono >= saved.Mono {
		c.uptime += c.mono - saved.Mono
	} else {
		c.boot++
		c.uptime += c.mono
	}
	return c
}

func sinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

func (c *clock) now() (wall event.Time, mono time.Duration) {
	t := time.Now()
	return event.At(t), c.mono + t.Sub(c.start)
}

// age is how long ago an event was taken in, without regard to jumps of the
// wall clock: for an event of an earlier boot the wall clock counts as it was
// when the log was opened, and what came after that as time went by.
func (c *clock) age(ev *event.Event) time.Duration {
	since := time.Since(c.start)
	if ev.Boot == c.boot {
		return c.mono + since - ev.Mono
	}
	return since + max(0, c.start.Sub(ev.Received.Std()))
}

func (c *clock) uptimeNow() time.Duration { return c.uptime + time.Since(c.start) }

func (c *clock) state() clockState {
	d := time.Since(c.start)
	return clockState{BootID: bootID(), Boot: c.boot, Mono: c.mono + d, Uptime: c.uptime + d}
}
