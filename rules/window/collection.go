package window

import (
	"cmp"
	"slices"
	"strings"

	"holdfast/gateway/event"
)

// collection keeps the newest values, by time and then by arrival.
type collection struct{ values []stamped }

func (c *collection) add(o *operand, v *Value, t event.Time) {
	i := len(c.values)
	for i > 0 && c.values[i-1].time > t {
		i--
	}
	if len(c.values) < int(o.params[0]) {
		c.values = slices.Insert(c.values, i, stamped{})
	} else {
		if i == 0 {
			return
		}
		copy(c.values, c.values[1:i])
		i--
		c.values[i] = stamped{}
	}
	c.values[i].set(v, t)
}

func (c *collection) merge(o *operand, later *collection) {
	for i := range later.values {
		c.add(o, &later.values[i].value, later.values[i].time)
	}
}

func (c *collection) clear() {
	clear(c.values)
	c.values = c.values[:0]
}

func (c *collection) list(*reading) Value {
	all := make([]Value, len(c.values))
	for i := range c.values {
		all[i] = c.values[i].value
	}
	return listOf(all)
}

func (c *collection) appendState(b []byte) []byte {
	b = appendUint(b, uint64(len(c.values)))
	for i := range c.values {
		b = c.values[i].appendState(b)
	}
	return b
}

func (c *collection) readState(o *operand, r *reader) {
	n := r.count(3)
	if n > int(o.params[0]) {
		r.fail(errDamaged)
		return
	}
	for i := 0; i < n && r.err == nil; i++ {
		var s stamped
		s.readState(o, r)
		if i > 0 && s.time < c.values[i-1].time || !s.any {
			r.fail(errDamaged)
		}
		c.values = append(c.values, s)
	}
}

// top counts values, of which it keeps a bounded number (Metwally, Agrawal and
// El Abbadi's Space-Saving, 2005; merged as by Agarwal et al., 2013): when a
// new one does not fit, it takes the place and the count of the rarest.
type top struct {
	hashes []uint64
	counts []uint64
	values []Value
}

func (c *top) capacity(o *operand) int { return max(64, 8*int(o.params[0])) }

func (c *top) add(o *operand, v *Value, _ event.Time) { c.count(o, v, v.hash(), 1) }

func (c *top) count(o *operand, v *Value, hash, n uint64) {
	if i := slices.Index(c.hashes, hash); i >= 0 {
		c.counts[i] += n
		return
	}
	if len(c.hashes) < c.capacity(o) {
		c.put(v, hash, n)
		return
	}
	i := c.rarest()
	c.hashes[i] = hash
	c.counts[i] += n
	c.values[i].keep(v)
}

func (c *top) put(v *Value, hash, n uint64) {
	c.hashes, c.counts = append(c.hashes, hash), append(c.counts, n)
	c.values = append(c.values, Value{})
	c.values[len(c.values)-1].keep(v)
}

// rarest returns the place of the least count, the first of several.
func (c *top) rarest() int {
	least := 0
	for i, n := range c.counts {
		if n < c.counts[least] {
			least = i
		}
	}
	return least
}

// floor is what a value that is not kept may have been counted at most.
func (c *top) floor(o *operand) uint64 {
	if len(c.counts) < c.capacity(o) {
		return 0
	}
	return c.counts[c.rarest()]
}

func (c *top) merge(o *operand, later *top) {
	mine, theirs := c.floor(o), later.floor(o)
	for i := range c.counts {
		if !slices.Contains(later.hashes, c.hashes[i]) {
			c.counts[i] += theirs
		}
	}
	n := len(c.hashes)
	for i, hash := range later.hashes {
		if j := slices.Index(c.hashes[:n], hash); j >= 0 {
			c.counts[j] += later.counts[i]
		} else {
			c.put(&later.values[i], hash, later.counts[i]+mine)
		}
	}
	if most := c.capacity(o); len(c.hashes) > most {
		c.sort()
		c.hashes, c.counts = c.hashes[:most], c.counts[:most]
		clear(c.values[most:])
		c.values = c.values[:most]
	}
}

// sort brings the values in order: the most frequent first, then by value.
func (c *top) sort() {
	order := c.order()
	hashes, counts, values := make([]uint64, 0, len(order)), make([]uint64, 0, len(order)), make([]Value, 0, len(order))
	for _, i := range order {
		hashes, counts, values = append(hashes, c.hashes[i]), append(counts, c.counts[i]), append(values, c.values[i])
	}
	c.hashes, c.counts, c.values = hashes, counts, values
}

func (c *top) order() []int {
	order := make([]int, len(c.hashes))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(c.counts[b], c.counts[a]), compareValues(c.values[a], c.values[b]))
	})
	return order
}

func compareValues(a, b Value) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Num, b.Num), strings.Compare(a.Text, b.Text))
}

func (c *top) clear() {
	clear(c.values)
	c.hashes, c.counts, c.values = c.hashes[:0], c.counts[:0], c.values[:0]
}

var topNames = []string{"value", "count"}

func (c *top) list(rd *reading) Value {
	order := c.order()
	order = order[:min(len(order), int(rd.params[0]))]
	all := make([]Value, 0, len(order))
	for _, i := range order {
		all = append(all, recordOf(topNames, c.values[i], Num(float64(c.counts[i]))))
	}
	return listOf(all)
}

func (c *top) appendState(b []byte) []byte {
	b = appendUint(b, uint64(len(c.hashes)))
	for i := range c.hashes {
		b = appendValue(b, c.values[i])
		b = appendUint(b, c.counts[i])
	}
	return b
}

func (c *top) readState(o *operand, r *reader) {
	n := r.count(2)
	if n > c.capacity(o) {
		r.fail(errDamaged)
		return
	}
	for ; n > 0 && r.err == nil; n-- {
		v := r.value()
		count, hash := r.uint(), v.hash()
		if slices.Contains(c.hashes, hash) {
			r.fail(errDamaged)
		}
		c.put(&v, hash, count)
	}
}
