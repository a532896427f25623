package main

import (
	"bufio"
	"bytes"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// gcPercent trades some speed under full load, where there is plenty, for
// memory: the heap grows by a half between two collections, not to the double.
const gcPercent = 50

// memoryShare is how much of the cgroup's memory the Go heap may take before
// the collector works harder; the rest is for the page cache, which holds the
// store's mapped files, and for what the runtime does not count.
const memoryShare = 0.45

// limitMemory makes the garbage collector fit a small device, and work harder
// near the limit of the cgroup instead of being killed at it. GOGC and
// GOMEMLIMIT win where they are set.
func limitMemory(log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit, ok := cgroupMemory(os.DirFS("/"))
	if !ok {
		return
	}
	heap := int64(float64(limit) * memoryShare)
	debug.SetMemoryLimit(heap)
	log.Debug("memory limit set", "cgroup_bytes", limit, "heap_bytes", heap)
}

// cgroupMemory returns the smallest memory limit, in bytes, of the cgroups
// that this process is in, of version 1 and 2. Root is the file system.
func cgroupMemory(root fs.FS) (limit int64, ok bool) {
	self, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	limit = math.MaxInt64
	for lines := bufio.NewScanner(bytes.NewReader(self)); lines.Scan(); {
		// hierarchy:controllers:path
		id, rest, _ := strings.Cut(lines.Text(), ":")
		controllers, group, found := strings.Cut(rest, ":")
		switch {
		case !found:
		case id == "0" && controllers == "":
			limit = min(limit, lowest(root, "sys/fs/cgroup", group, "memory.max"),
				lowest(root, "sys/fs/cgroup/unified", group, "memory.max"))
		case hasController(controllers, "memory"):
			limit = min(limit, lowest(root, "sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
		}
	}
	// Version 1 says "none" by the largest number of whole pages.
	return limit, limit < 1<<62
}

func hasController(list, name string) bool {
	for c := range strings.SplitSeq(list, ",") {
		if c == name {
			return true
		}
	}
	return false
}

// lowest returns the smallest limit in the files of that name from the group
// up to the root of the hierarchy. A limit on any of them binds, and inside a
// container the group named may not be visible while its root is.
func lowest(root fs.FS, mount, group, file string) int64 {
	limit := int64(math.MaxInt64)
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		b, err := fs.ReadFile(root, path.Join(mount, group, file))
		if err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 {
				limit = min(limit, n)
			}
		}
		if group == "/" {
			return limit
		}
	}
}
