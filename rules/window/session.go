package window

import (
	"slices"
	"time"

	"holdfast/gateway/event"
)

// Session groups the rows of a key that are less than Gap apart. A pane reaches
// from its first row to Gap after its last; a row between two panes joins them.
// A row is late when the pane that it would begin has ended.
type Session struct{ Gap time.Duration }

func (a Session) assign(w *Window) (kind, error) {
	if err := length("the gap of a session window", a.Gap); err != nil {
		return nil, err
	}
	s := &session{w: w, gap: event.Time(a.Gap)}
	s.timers = timers{groups: &w.groups, due: s.end}
	w.tag = 'g'
	return s, nil
}

type session struct {
	w      *Window
	gap    event.Time
	open   perKey[[]int32] // groups of a key, by time
	timers timers
	mark   event.Time // watermark
	begun  bool
}

func (s *session) ordered() bool { return false }

func (s *session) end(g int32) event.Time { return s.w.groups.at[g].last + s.gap }

// touches tells whether a row at t belongs to the pane of a group.
func (s *session) touches(g int32, t event.Time) bool {
	gr := &s.w.groups.at[g]
	return t < gr.last+s.gap && t > gr.first-s.gap
}

func (s *session) late(key int32, t event.Time) bool {
	if !s.begun || t+s.gap > s.mark {
		return false
	}
	return !slices.ContainsFunc(s.open.get(key), func(g int32) bool { return s.touches(g, t) })
}

func (s *session) add(dst []Pane, key int32, row *Row) []Pane {
	open := s.open.at(key)
	i := 0
	for i < len(*open) && s.w.groups.at[(*open)[i]].last+s.gap <= row.Time {
		i++
	}
	gs := &s.w.groups
	if i < len(*open) && s.touches((*open)[i], row.Time) {
		g := (*open)[i]
		gs.add(g, row)
		if i+1 < len(*open) && s.touches((*open)[i+1], row.Time) {
			gs.merge(g, (*open)[i+1])
			gs.drop((*open)[i+1])
			s.w.keys.release(key)
			*open = slices.Delete(*open, i+1, i+2)
		}
		return dst
	}
	g := gs.take(key)
	gs.add(g, row)
	s.w.keys.hold(key)
	*open = slices.Insert(*open, i, g)
	s.timers.start(g)
	return dst
}

func (s *session) advance(dst []Pane, at event.Time) []Pane {
	s.mark, s.begun = at, true
	for {
		g, end, ok := s.timers.first()
		if !ok || end > at {
			return dst
		}
		dst = s.close(dst, g)
	}
}

func (s *session) close(dst []Pane, g int32) []Pane {
	gs := &s.w.groups
	key := gs.at[g].key
	dst = gs.pane(dst, g, s.w.keys.name(key), gs.at[g].first, s.end(g))
	open := s.open.at(key)
	*open = slices.DeleteFunc(*open, func(o int32) bool { return o == g })
	gs.drop(g)
	s.w.keys.release(key)
	return dst
}

func (s *session) due() (event.Time, bool) {
	_, at, ok := s.timers.first()
	return at, ok
}

func (s *session) early(dst []Pane) []Pane {
	gs := &s.w.groups
	for key, open := range s.open {
		for _, g := range open {
			if gs.at[g].changed {
				dst = gs.earlyPane(dst, g, s.w.keys.name(int32(key)), gs.at[g].first, s.end(g))
				gs.at[g].changed = false
			}
		}
	}
	return dst
}

func (s *session) flush(dst []Pane) []Pane {
	for _, open := range s.open {
		for len(open) > 0 {
			g := open[0]
			dst = s.close(dst, g)
			open = s.open[s.w.groups.at[g].key]
		}
	}
	s.mark, s.begun, s.timers.heap = 0, false, s.timers.heap[:0]
	return dst
}

func (s *session) appendState(b []byte) []byte {
	b = appendBool(b, s.begun)
	b = appendInt(b, int64(s.mark))
	n := 0
	for _, open := range s.open {
		if len(open) > 0 {
			n++
		}
	}
	b = appendUint(b, uint64(n))
	for _, key := range s.w.keys.byName() {
		open := s.open.get(key)
		if len(open) == 0 {
			continue
		}
		b = appendText(b, s.w.keys.name(key))
		b = appendUint(b, uint64(len(open)))
		for _, g := range open {
			b = s.w.groups.appendState(b, g)
		}
	}
	return b
}

func (s *session) readState(r *reader) {
	s.begun, s.mark = r.bool(), r.mark()
	for n := r.count(4); n > 0 && r.err == nil; n-- {
		key := s.w.readKey(r)
		open := s.open.at(key)
		if len(*open) > 0 {
			r.fail(errDamaged)
			return
		}
		after := event.Time(0)
		for m := r.count(4); m > 0 && r.err == nil; m-- {
			g := s.w.groups.take(key)
			*open = append(*open, g)
			s.w.keys.hold(key)
			s.w.readGroup(r, g, after, MaxTime-1)
			after = s.end(g)
			s.timers.start(g)
		}
	}
}
