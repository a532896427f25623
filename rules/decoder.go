package rules

import (
	"encoding/binary"
	"math"

	"holdfast/rules/window"
)

func appendBytes(b []byte, part string) []byte {
	b = binary.AppendUvarint(b, uint64(len(part)))
	return append(b, part...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendValue(b []byte, v window.Value) []byte {
	b = append(b, byte(v.Kind))
	switch v.Kind {
	case window.Number, window.Bool:
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Num))
	case window.Text:
		b = appendBytes(b, v.Text)
	}
	return b
}

// decoder takes a snapshot apart; bad tells that it ran out or made no sense.
type decoder struct {
	b    []byte
	bad  bool
	lost int // pieces that nothing in the rule takes up
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) int() int64 {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) bool() bool { return d.byte() != 0 }

func (d *decoder) value() window.Value {
	v := window.Value{Kind: window.Kind(d.byte())}
	switch v.Kind {
	case window.Number, window.Bool:
		if len(d.b) < 8 {
			d.b, d.bad = nil, true
			return v
		}
		v.Num = math.Float64frombits(binary.LittleEndian.Uint64(d.b))
		d.b = d.b[8:]
	case window.Text:
		v.Text = string(d.bytes())
	case window.Null:
	default:
		d.bad = true
	}
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	part := d.b[:n]
	d.b = d.b[n:]
	return part
}
