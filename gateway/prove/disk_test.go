//go:build prove

package prove

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// disk is an ext4 file system in a loop-mounted image: a disk of its own, with
// its own size and counters.
type disk struct {
	image string
	loop  string // device, /dev/loopN
	path  string // where it is mounted
}

// newDisk makes and mounts a disk of so many MiB, until the end of the test.
func newDisk(t testing.TB, mib int) *disk {
	t.Helper()
	needRoot(t)
	needTools(t, "mkfs.ext4", "losetup", "mount", "umount")
	dir := folder(t)
	d := &disk{image: filepath.Join(dir, "disk.img"), path: filepath.Join(dir, "disk")}
	if err := os.Mkdir(d.path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, int64(mib)<<20); err != nil {
		t.Fatal(err)
	}
	// Nothing left to initialize later, which would count as written.
	command(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image)
	out, err := exec.Command("losetup", "--find", "--show", d.image).CombinedOutput()
	if err != nil {
		cannot(t, "no loop device: %v: %s", err, out)
	}
	d.loop = strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "-d", d.loop).Run() })
	if out, err := exec.Command("mount", d.loop, d.path).CombinedOutput(); err != nil {
		cannot(t, "no mounts: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", d.path).Run() })
	return d
}

// free returns how many bytes may still be written.
func (d *disk) free(t testing.TB) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.path, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// written returns how many bytes the device has been given, after all that is
// in memory has reached it.
func (d *disk) written(t testing.TB) int64 {
	t.Helper()
	command(t, "sync", "-f", d.path)
	b, err := os.ReadFile(fmt.Sprintf("/sys/block/%s/stat", filepath.Base(d.loop)))
	if err != nil {
		t.Fatal(err)
	}
	sectors, err := strconv.ParseInt(strings.Fields(string(b))[6], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return sectors * 512
}

// usage is what du says of a folder, in bytes.
func usage(dir string) (n int64) {
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var s syscall.Stat_t
		if err == nil && syscall.Lstat(path, &s) == nil {
			n += s.Blocks * 512
		}
		return nil // files come and go
	})
	return n
}

// peak follows a figure and keeps its highest value until it is asked for.
func peak(every time.Duration, read func() int64) (highest func() int64) {
	var top atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			top.Store(max(top.Load(), read()))
			select {
			case <-stop:
				return
			case <-time.After(every):
			}
		}
	}()
	return func() int64 { close(stop); <-done; return top.Load() }
}

// memoryCgroup makes a cgroup with a memory limit, until the end of the test,
// and returns the file that takes the processes to put into it.
func memoryCgroup(t testing.TB, limit int64) (procs string, highest func() int64) {
	t.Helper()
	needRoot(t)
	name := fmt.Sprintf("holdfast-prove-%d", os.Getpid())
	for _, v := range []struct{ parent, limit, peak string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"}, // version 1
		{"/sys/fs/cgroup", "memory.max", "memory.peak"},                                 // version 2
	} {
		if v.limit == "memory.max" {
			os.WriteFile(filepath.Join(v.parent, "cgroup.subtree_control"), []byte("+memory"), 0o644)
		}
		dir := filepath.Join(v.parent, name)
		if _, err := os.Stat(filepath.Join(v.parent, "cgroup.procs")); err != nil || os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			for range 50 { // until its last process is gone
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
		if err := os.WriteFile(filepath.Join(dir, v.limit), []byte(strconv.FormatInt(limit, 10)), 0o644); err != nil {
			continue
		}
		return filepath.Join(dir, "cgroup.procs"), func() int64 {
			b, _ := os.ReadFile(filepath.Join(dir, v.peak))
			n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
			return n
		}
	}
	cannot(t, "no memory cgroup can be made")
	return "", nil
}
