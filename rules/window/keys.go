package window

import (
	"slices"
	"strings"
)

// keys numbers the keys of a window, so that panes find the state of a key by
// index. A key is live while a pane or a waiting row holds it. Numbers of keys
// that are not live are kept for a while, because most keys come again; they
// are no state: nothing that a window returns depends on them.
type keys struct {
	index   map[string]int32
	entries []keyEntry
	free    []int32
	live    int
	max     int
	order   []int32 // by name; valid while sorted
	sorted  bool
	inserts int // since the last sweep
}

type keyEntry struct {
	name string
	refs int32
	soft bool // a sample of it is remembered, see aligned
	old  bool // it was idle at the last sweep
}

func newKeys(most int) keys { return keys{index: map[string]int32{}, max: most} }

// find returns the number of a key, -1 if it has none.
func (k *keys) find(name string) int32 {
	if i, ok := k.index[name]; ok {
		return i
	}
	return -1
}

// admit returns the number of a key that find returned i for. It refuses keys
// that are not live once as many as possible are.
func (k *keys) admit(i int32, name string) (int32, error) {
	if (i < 0 || k.entries[i].refs == 0) && k.live >= k.max {
		return i, ErrKeys
	}
	if i >= 0 {
		return i, nil
	}
	return k.insert(name), nil
}

func (k *keys) insert(name string) int32 {
	if k.inserts++; k.inserts > 1024 && k.inserts > k.live {
		k.sweep()
	}
	name = strings.Clone(name)
	var i int32
	if n := len(k.free); n > 0 {
		i, k.free = k.free[n-1], k.free[:n-1]
	} else {
		i = int32(len(k.entries))
		k.entries = append(k.entries, keyEntry{})
	}
	k.entries[i] = keyEntry{name: name}
	k.index[name] = i
	k.sorted = false
	return i
}

// sweep forgets keys that have been idle since the last sweep.
func (k *keys) sweep() {
	k.inserts = 0
	for i := range k.entries {
		e := &k.entries[i]
		switch {
		case e.refs > 0 || e.soft || k.find(e.name) != int32(i):
		case !e.old:
			e.old = true
		default:
			delete(k.index, e.name)
			*e = keyEntry{}
			k.free = append(k.free, int32(i))
			k.sorted = false
		}
	}
}

func (k *keys) name(i int32) string { return k.entries[i].name }

func (k *keys) hold(i int32) {
	e := &k.entries[i]
	if e.refs == 0 {
		k.live++
	}
	e.refs++
	e.old = false
}

func (k *keys) release(i int32) {
	e := &k.entries[i]
	if e.refs--; e.refs == 0 {
		k.live--
	}
}

// byName returns the numbers of all known keys in order of their names.
func (k *keys) byName() []int32 {
	if !k.sorted {
		k.order = k.order[:0]
		for _, i := range k.index {
			k.order = append(k.order, i)
		}
		slices.SortFunc(k.order, k.compare)
		k.sorted = true
	}
	return k.order
}

func (k *keys) compare(a, b int32) int { return strings.Compare(k.entries[a].name, k.entries[b].name) }

// perKey is a table by number of key.
type perKey[T any] []T

// at returns the entry of a key, which may be a new one.
func (t *perKey[T]) at(key int32) *T {
	for int(key) >= len(*t) {
		var zero T
		*t = append(*t, zero)
	}
	return &(*t)[key]
}

// get returns the entry of a key, or nothing.
func (t perKey[T]) get(key int32) (v T) {
	if key >= 0 && int(key) < len(t) {
		v = t[key]
	}
	return v
}
