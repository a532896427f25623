package storage

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mappings tells the kernel that Badger's write maps are written here and
// there, not in long runs. Without it, read-ahead and large folios turn a
// commit of some KiB into the writing of whole folios.
type mappings struct {
	seen map[uintptr]string
}

// advise looks for maps of the store's log files that it has not seen yet.
func (m *mappings) advise(dir string) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close()
	now := map[uintptr]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		at := strings.IndexByte(line, '/')
		if at < 0 || !strings.HasPrefix(line[at:], dir) || !strings.HasSuffix(line, ".vlog") && !strings.HasSuffix(line, ".mem") {
			continue
		}
		from, to, ok := parseRange(line)
		if !ok {
			continue
		}
		name := line[at:]
		now[from] = name
		if m.seen[from] != name {
			// EINVAL or EAGAIN cost speed, not safety.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_RANDOM)
		}
	}
	m.seen = now
}

func parseRange(line string) (from, to uintptr, ok bool) {
	a, rest, _ := strings.Cut(line, "-")
	b, _, _ := strings.Cut(rest, " ")
	x, err1 := strconv.ParseUint(a, 16, strconv.IntSize)
	y, err2 := strconv.ParseUint(b, 16, strconv.IntSize)
	return uintptr(x), uintptr(y), err1 == nil && err2 == nil && y > x
}
