package gateway

import (
	"fmt"
	"time"

	"holdfast/gateway/config"
	"holdfast/storage"
)

const (
	// nearlyFull is how full, in percent, a stream may be of what a destination
	// has not taken before that is worth a warning.
	nearlyFull = 80
	// recent is how long a stream that dropped or refused counts as full.
	recent = time.Minute
)

func policyName(p storage.Policy) string {
	for name, q := range policies {
		if q == p {
			return name
		}
	}
	return ""
}

// fullness says in an operator's words that a stream is full or will be soon,
// and because of whom; nothing if all is well.
func fullness(s *storage.StreamStatus, cursors map[string]storage.CursorStatus) string {
	var worst storage.CursorStatus
	percent := uint64(0)
	for _, c := range cursors {
		if !c.Attached {
			continue
		}
		p := c.Bytes * 100 / uint64(max(s.Max, 1))
		if s.MaxEvents > 0 {
			p = max(p, (c.Pending-c.Retrying)*100/s.MaxEvents)
		}
		if p > percent || worst.Name == "" || p == percent && c.Name < worst.Name {
			worst, percent = c, p
		}
	}
	behind := ""
	if worst.Pending > 0 {
		behind = fmt.Sprintf("; destination %s is %d events (%d MiB) behind", worst.Name, worst.Pending, worst.Bytes>>20)
	}
	if does, count := whenFull(s); does != "" {
		return fmt.Sprintf("stream %s is full and %s, %s%s", s.Name, does, count, behind)
	}
	if percent >= nearlyFull {
		next := map[storage.Policy]string{
			storage.DropOldest: "then the oldest are dropped", storage.Block: "then sources wait", storage.Reject: "then sources are refused",
		}[s.Policy]
		return fmt.Sprintf("stream %s is %d %% full, %s%s", s.Name, min(percent, 100), next, behind)
	}
	return ""
}

// diskWatermark says that the streams may still grow by more than the disk
// has, once that comes near.
func (g *Gateway) diskWatermark(free int64) string {
	const near = 256 << 20
	left := free - storage.DefaultReserve
	if free <= 0 || left > near {
		return ""
	}
	var growth int64
	for _, s := range g.log.Streams() {
		if st := s.Status(); st.Max > int64(st.Bytes) {
			growth += st.Max - int64(st.Bytes)
		}
	}
	if growth <= left {
		return ""
	}
	return fmt.Sprintf("the disk has room for %d MiB more and the streams may grow by %v: then sources are refused; make room or lower max of the streams",
		max(left, 0)>>20, config.Size(growth>>20<<20))
}
