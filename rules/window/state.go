package window

import (
	"encoding/binary"
	"errors"
	"math"

	"holdfast/gateway/event"
)

var errDamaged = errors.New("window state is damaged")

func appendUint(b []byte, n uint64) []byte { return binary.AppendUvarint(b, n) }
func appendInt(b []byte, n int64) []byte   { return binary.AppendVarint(b, n) }

func appendFloat(b []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
}

func appendFixed(b []byte, n uint64) []byte { return binary.LittleEndian.AppendUint64(b, n) }

func appendBool(b []byte, yes bool) []byte {
	if yes {
		return append(b, 1)
	}
	return append(b, 0)
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

func (r *reader) bool() bool {
	c := r.byte()
	if c > 1 {
		r.fail(errDamaged)
	}
	return c == 1
}

// take returns the next n bytes, nil if there are fewer.
func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.fail(errDamaged)
		return nil
	}
	part := r.b[:n]
	r.b = r.b[n:]
	return part
}

func (r *reader) fixed() uint64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

func (r *reader) float() float64 { return math.Float64frombits(r.fixed()) }

// mark reads a watermark.
func (r *reader) mark() event.Time {
	t := event.Time(r.int())
	if t < -MaxTime || t > maxMark {
		r.fail(errDamaged)
		return 0
	}
	return t
}

// time reads a time that a row can have.
func (r *reader) time() event.Time {
	t := event.Time(r.int())
	if t < 0 || t >= MaxTime {
		r.fail(errDamaged)
		return 0
	}
	return t
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
