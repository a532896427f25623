package window

import (
	"encoding/binary"
	"errors"
	"math"
)

var errDamaged = errors.New("window state is damaged")

func appendUint(b []byte, n uint64) []byte { return binary.AppendUvarint(b, n) }
func appendInt(b []byte, n int64) []byte   { return binary.AppendVarint(b, n) }

func appendFloat(b []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
}

func appendText(b []byte, s string) []byte {
	b = appendUint(b, uint64(len(s)))
	return append(b, s...)
}

func appendValue(b []byte, v Value) []byte {
	b = append(b, byte(v.Kind))
	switch v.Kind {
	case Number, Bool:
		b = appendFloat(b, v.Num)
	case Text:
		b = appendText(b, v.Text)
	}
	return b
}

// reader takes apart what the append functions wrote. After the first fault
// it returns zeros and keeps the error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if err != nil && r.err == nil {
		r.err, r.b = err, nil
	}
}

func (r *reader) uint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail(errDamaged)
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) int() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail(errDamaged)
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count reads a number of items of which each takes at least size bytes, so
// that damaged state cannot make anybody allocate.
func (r *reader) count(size int) int {
	n := r.uint()
	if n > uint64(len(r.b)/max(1, size)) {
		r.fail(errDamaged)
		return 0
	}
	return int(n)
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail(errDamaged)
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) float() float64 {
	if len(r.b) < 8 {
		r.fail(errDamaged)
		return 0
	}
	f := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	r.b = r.b[8:]
	return f
}

func (r *reader) text() string {
	n := r.count(1)
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) value() Value {
	switch kind := Kind(r.byte()); kind {
	case Null:
		return Value{}
	case Number, Bool:
		return Value{Kind: kind, Num: r.float()}
	case Text:
		return Str(r.text())
	}
	r.fail(errDamaged)
	return Value{}
}
