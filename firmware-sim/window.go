package sim

import "time"

// Window is something that happens once in every Every, at a moment that the
// seed chooses, and then lasts For.
type Window struct {
	Every time.Duration `yaml:"every"`
	For   time.Duration `yaml:"for"`
}

// slot returns the k-th time that it happens, as [start, end). Two of them
// never overlap, because each lies within its own Every.
func (w *Window) slot(r random, k int64) (start, end time.Duration) {
	start = time.Duration(k)*w.Every + r.moment(k, w.Every-w.For)
	return start, start + w.For
}

// at returns since when it has been happening at t, if it is.
func (w *Window) at(r random, t time.Duration) (since time.Duration, ok bool) {
	if w == nil || t < 0 {
		return 0, false
	}
	start, end := w.slot(r, int64(t/w.Every))
	return start, start <= t && t < end
}

// next returns the first time that it begins at or after t.
func (w *Window) next(r random, t time.Duration) (start, end time.Duration) {
	if w == nil {
		return forever, forever
	}
	k := int64(max(t, 0) / w.Every)
	for start, end = w.slot(r, k); start < t; start, end = w.slot(r, k) {
		k++
	}
	return start, end
}

// Schedule is something that happens at fixed times: from At for For, and
// again in every Every if that is not 0.
type Schedule struct {
	At    time.Duration `yaml:"at"`
	For   time.Duration `yaml:"for"`
	Every time.Duration `yaml:"every"`
}

// next returns the first time, as [start, end), that ends after t. If there is
// none both are forever.
func (s *Schedule) next(t time.Duration) (start, end time.Duration) {
	start = s.At
	if s.Every > 0 && t >= s.At {
		start += (t - s.At) / s.Every * s.Every
		if start+s.For <= t {
			start += s.Every
		}
	}
	if start+s.For <= t {
		return forever, forever
	}
	return start, start + s.For
}

// forever is later than any time in a scenario.
const forever = time.Duration(1<<63 - 1)
