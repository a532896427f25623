package packet

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// AppendString appends a UTF-8 Encoded String (1.5.4): its length in two bytes,
// and then it.
func AppendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// AppendVarint appends a Variable Byte Integer (1.5.5).
func AppendVarint(b []byte, v int) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func varintSize(v int) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

// cutVarint splits b behind the Variable Byte Integer at its start, which must
// be as short as it can be [MQTT-1.5.5-1].
func cutVarint(b []byte) (v int, rest []byte, ok bool) {
	for i := 0; i < len(b) && i < 4; i++ {
		v |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, b[i+1:], b[i] != 0 || i == 0
		}
	}
	return 0, nil, false
}

func validText(b []byte) bool { return bytes.IndexByte(b, 0) < 0 && utf8.Valid(b) }

// reader takes fields from the front of b; short is set when there was less
// than they say.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.short, r.b = true, nil
		return nil
	}
	field := r.b[:n]
	r.b = r.b[n:]
	return field
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) bytes() []byte { return r.take(int(r.uint16())) }
func (r *reader) text() string  { return string(r.bytes()) }
