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

// gcPercent is how much the heap grows between two collections, in percent of
// what was live after the first: a collection costs the same whether it frees
// little or much, and under full load events by the megabyte live for
// milliseconds. The memory limit bounds what this costs.
const gcPercent = 150

// memoryShare is how much of the memory there is the Go heap may take before
// the collector works harder; the rest is for the page cache, which holds the
// store's mapped files, and for what the runtime does not count.
const memoryShare = 0.45

// limitMemory makes the garbage collector fit the device: it works harder near
// the limit of the cgroup, or the memory of the machine where that is less,
// instead of the process being killed there. GOGC and GOMEMLIMIT win where they
// are set.
func limitMemory(log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit, ok := memory(os.DirFS("/"))
	if !ok {
		return
	}
	heap := int64(float64(limit) * memoryShare)
	debug.SetMemoryLimit(heap)
	log.Debug("memory limit set", "memory_bytes", limit, "heap_bytes", heap)
}

// memory returns the bytes that this process may use: those of the machine, or
// the smallest limit of the cgroups, of version 1 and 2, that it is in. Root is
// the file system.
func memory(root fs.FS) (limit int64, ok bool) {
	limit = machineMemory(root)
	self, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return limit, limit < math.MaxInt64
	}
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

// machineMemory returns MemTotal of /proc/meminfo, or the largest number where
// it cannot be read.
func machineMemory(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return math.MaxInt64
	}
	for line := range strings.Lines(string(text)) {
		value, found := strings.CutPrefix(line, "MemTotal:")
		if !found {
			continue
		}
		if kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 44); err == nil && kib > 0 {
			return kib << 10
		}
	}
	return math.MaxInt64
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
