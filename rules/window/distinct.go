package window

import (
	"slices"

	"github.com/axiomhq/hyperloglog"

	"holdfast/gateway/event"
)

const (
	// maxExact hashes take as much memory as the registers that replace them.
	maxExact = 256
	// precision 11 is 2,048 registers: a standard error of 1.04/√2048 = 2.3 %.
	precision      = 11
	registersState = 8 + 1<<precision
)

// distinct counts different values: by their hashes while these are few, then
// by a HyperLogLog (Flajolet et al., 2007; LogLog-Beta for the estimate). Both
// are the same whatever the order of rows.
type distinct struct {
	hashes    []uint64 // ascending
	registers *hyperloglog.Sketch
	dense     bool
}

func (c *distinct) add(_ *operand, v *Value, _ event.Time) {
	if v.Kind != Null {
		c.insert(v.hash())
	}
}

func (c *distinct) insert(hash uint64) {
	if !c.dense {
		i, found := slices.BinarySearch(c.hashes, hash)
		if found {
			return
		}
		if len(c.hashes) < maxExact {
			c.hashes = slices.Insert(c.hashes, i, hash)
			return
		}
		c.spread()
	}
	c.registers.InsertHash(hash)
}

// spread goes over to registers.
func (c *distinct) spread() {
	if c.registers == nil {
		c.registers, _ = hyperloglog.NewSketch(precision, false) // fails for another precision only
	}
	for _, hash := range c.hashes {
		c.registers.InsertHash(hash)
	}
	c.hashes, c.dense = c.hashes[:0], true
}

func (c *distinct) merge(_ *operand, later *distinct) {
	if later.dense {
		if !c.dense {
			c.spread()
		}
		_ = c.registers.Merge(later.registers) // fails for another precision only
		return
	}
	for _, hash := range later.hashes {
		c.insert(hash)
	}
}

func (c *distinct) clear() {
	c.hashes = c.hashes[:0]
	if c.dense {
		c.registers.Reset()
		c.dense = false
	}
}

func (c *distinct) count(*reading) Value {
	if c.dense {
		return Num(float64(c.registers.Estimate()))
	}
	return Num(float64(len(c.hashes)))
}

func (c *distinct) appendState(b []byte) []byte {
	b = appendBool(b, c.dense)
	if c.dense {
		b, _ = c.registers.AppendBinary(b)
		return b
	}
	b = appendUint(b, uint64(len(c.hashes)))
	for _, hash := range c.hashes {
		b = appendFixed(b, hash)
	}
	return b
}

func (c *distinct) readState(_ *operand, r *reader) {
	if r.bool() {
		b := r.take(registersState)
		if r.err != nil || b[1] != precision || b[3] != 0 {
			r.fail(errDamaged)
			return
		}
		c.spread()
		r.fail(c.registers.UnmarshalBinary(b))
		return
	}
	n := r.count(8)
	if n > maxExact {
		r.fail(errDamaged)
		return
	}
	for i := range n {
		hash := r.fixed()
		if i > 0 && hash <= c.hashes[i-1] {
			r.fail(errDamaged)
			return
		}
		c.hashes = append(c.hashes, hash)
	}
}
