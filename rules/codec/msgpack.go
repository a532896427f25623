package codec

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/tinylib/msgp/msgp"
)

type msgpackCodec struct{}

func (msgpackCodec) String() string { return "msgpack" }

func notMessagePack(err error) error {
	return fmt.Errorf("the payload is not MessagePack: %s", strings.TrimPrefix(err.Error(), "msgp: "))
}

// checkMessagePack returns an error unless b is one whole value.
func checkMessagePack(b []byte) error {
	rest, err := msgp.Skip(b)
	switch {
	case err != nil:
		return notMessagePack(err)
	case len(rest) > 0:
		return notMessagePack(errTrailing)
	}
	return nil
}

// Find implements [Codec].
func (msgpackCodec) Find(payload []byte, t *Tree, pass uint64) error {
	if err := checkMessagePack(payload); err != nil {
		return err
	}
	f := msgpackFinder{pass}
	if len(t.bare) > 0 && msgp.NextType(payload) != msgp.MapType {
		v, err := f.decode(payload)
		if err != nil {
			return err
		}
		put(t.bare, v, pass)
	}
	_, err := f.value(payload, t)
	return err
}

// AppendJSON implements [Codec]. Binary data become base64.
func (msgpackCodec) AppendJSON(dst, payload []byte) ([]byte, error) {
	if err := checkMessagePack(payload); err != nil {
		return dst, err
	}
	v, _, err := msgp.ReadIntfBytes(payload)
	if err != nil {
		return dst, notMessagePack(err)
	}
	return appendAny(dst, plain(v))
}

// msgpackFinder walks data that is known to be well-formed.
type msgpackFinder struct{ pass uint64 }

// value fills the slots of t and below from the value that b begins with, and
// returns what follows it.
func (f *msgpackFinder) value(b []byte, t *Tree) (rest []byte, err error) {
	if len(t.slots) > 0 {
		v, err := f.decode(b)
		if err != nil {
			return nil, err
		}
		put(t.slots, v, f.pass)
	}
	kind := msgp.NextType(b)
	if len(t.kids) == 0 || kind != msgp.MapType && kind != msgp.ArrayType {
		return msgp.Skip(b)
	}
	var n uint32
	if kind == msgp.MapType {
		n, b, err = msgp.ReadMapHeaderBytes(b)
	} else {
		n, b, err = msgp.ReadArrayHeaderBytes(b)
	}
	var done uint64
	for k := uint32(0); err == nil && k < n; k++ {
		var kid int
		if kind == msgp.ArrayType {
			kid = t.find(func(kid *Tree) bool { return kid.index >= 0 && uint32(kid.index) == k })
		} else {
			var name string
			if name, b, err = f.key(b); err != nil {
				return nil, err
			}
			kid = t.find(func(kid *Tree) bool { return kid.name == name })
		}
		if kid < 0 || kid < 64 && done>>kid&1 == 1 {
			b, err = msgp.Skip(b)
			continue
		}
		done |= 1 << (kid & 63)
		b, err = f.value(b, t.kids[kid])
	}
	return b, err
}

// key reads the key of a map entry: text, or a number as text.
func (f *msgpackFinder) key(b []byte) (name string, rest []byte, err error) {
	if kind := msgp.NextType(b); kind == msgp.StrType || kind == msgp.BinType {
		key, rest, err := msgp.ReadMapKeyZC(b)
		return unsafe.String(unsafe.SliceData(key), len(key)), rest, err
	}
	v, rest, err := msgp.ReadIntfBytes(b)
	return fmt.Sprint(plain(v)), rest, err
}

// decode returns the value that b begins with.
func (f *msgpackFinder) decode(b []byte) (any, error) {
	switch msgp.NextType(b) {
	case msgp.Float64Type:
		v, _, err := msgp.ReadFloat64Bytes(b)
		return v, err
	case msgp.StrType:
		v, _, err := msgp.ReadStringBytes(b)
		return v, err
	case msgp.IntType:
		v, _, err := msgp.ReadInt64Bytes(b)
		return whole(v), err
	}
	v, _, err := msgp.ReadIntfBytes(b)
	if err != nil {
		return nil, notMessagePack(err)
	}
	return plain(v), nil
}
