package storage

import "sort"

// span is the offsets [from, to).
type span struct{ from, to uint64 }

// spans is a set of offsets: ascending ranges that do not touch.
type spans []span

// at returns the index of the first range that ends behind offset.
func (s spans) at(offset uint64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].to > offset })
}

func (s spans) has(offset uint64) bool {
	i := s.at(offset)
	return i < len(s) && s[i].from <= offset
}

// count returns how many of the offsets [from, to) are in the set.
func (s spans) count(from, to uint64) (n uint64) {
	for i := s.at(from); i < len(s) && s[i].from < to; i++ {
		n += min(s[i].to, to) - max(s[i].from, from)
	}
	return n
}

// add takes an offset into the set and notes in touched where ranges begin or
// began that are different now.
func (s *spans) add(offset uint64, touched map[uint64]bool) {
	i := s.at(offset)
	all := *s
	if i < len(all) && all[i].from <= offset {
		return
	}
	before := i > 0 && all[i-1].to == offset
	after := i < len(all) && all[i].from == offset+1
	switch {
	case before && after:
		touched[all[i-1].from], touched[all[i].from] = true, true
		all[i-1].to = all[i].to
		*s = append(all[:i], all[i+1:]...)
	case before:
		touched[all[i-1].from] = true
		all[i-1].to++
	case after:
		touched[all[i].from], touched[offset] = true, true
		all[i].from = offset
	default:
		touched[offset] = true
		all = append(all, span{})
		copy(all[i+1:], all[i:])
		all[i] = span{offset, offset + 1}
		*s = all
	}
}

// cut removes the offsets below first, noting where that changes ranges.
func (s *spans) cut(first uint64, touched map[uint64]bool) {
	n := s.at(first)
	for _, r := range (*s)[:n] {
		touched[r.from] = true
	}
	rest := append(spans(nil), (*s)[n:]...)
	if len(rest) > 0 && rest[0].from < first {
		touched[rest[0].from], touched[first] = true, true
		rest[0].from = first
	}
	*s = rest
}

// upTo returns the end of the range that begins at from; 0 if none does.
func (s spans) upTo(from uint64) uint64 {
	i := s.at(from)
	if i < len(s) && s[i].from == from {
		return s[i].to
	}
	return 0
}
