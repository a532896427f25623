package codec

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unsafe"

	"github.com/fxamacker/cbor/v2"
)

type cborCodec struct{}

func (cborCodec) String() string { return "cbor" }

// cborMode refuses what could cost memory or depth. Times stay what they are on
// the wire, numbers and text.
var cborMode = mustMode(cbor.DecOptions{
	MaxNestedLevels: 64, MaxArrayElements: 1 << 17, MaxMapPairs: 1 << 17,
	DupMapKey: cbor.DupMapKeyQuiet, TimeTag: cbor.DecTagIgnored, UTF8: cbor.UTF8DecodeInvalid, BigIntDec: cbor.BigIntDecodeValue,
})

func mustMode(o cbor.DecOptions) cbor.DecMode {
	m, err := o.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

func notCBOR(err error) error {
	return fmt.Errorf("the payload is not CBOR: %s", strings.TrimPrefix(err.Error(), "cbor: "))
}

// Find implements [Codec].
func (cborCodec) Find(payload []byte, t *Tree, pass uint64) error {
	if err := cborMode.Wellformed(payload); err != nil {
		return notCBOR(err)
	}
	f := cborFinder{b: payload, pass: pass}
	at := f.tags(0)
	if major, _, _ := f.head(at); major == cborMap {
		_, err := f.value(at, t)
		return err
	}
	if len(t.bare) > 0 {
		v, err := f.decode(0, len(payload))
		if err != nil {
			return err
		}
		put(t.bare, v, pass)
	}
	_, err := f.value(at, t)
	return err
}

// AppendJSON implements [Codec]. Byte strings become base64, map keys text.
func (cborCodec) AppendJSON(dst, payload []byte) ([]byte, error) {
	var v any
	if err := cborMode.Unmarshal(payload, &v); err != nil {
		return dst, notCBOR(err)
	}
	return appendAny(dst, plain(v))
}

func appendAny(dst []byte, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return dst, fmt.Errorf("the payload cannot become JSON: %w", err)
	}
	return append(dst, b...), nil
}

// The major types of CBOR, RFC 8949 section 3.1.
const (
	cborUnsigned = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

// cborFinder walks data that is known to be well-formed.
type cborFinder struct {
	b    []byte
	pass uint64
}

// indefinite is the argument of a head whose item ends with a break.
const indefinite = math.MaxUint64

// head reads the head at i and returns where it ends.
func (f *cborFinder) head(i int) (major int, arg uint64, end int) {
	major, info := int(f.b[i]>>5), f.b[i]&31
	i++
	switch info {
	case 24:
		return major, uint64(f.b[i]), i + 1
	case 25:
		return major, uint64(binary.BigEndian.Uint16(f.b[i:])), i + 2
	case 26:
		return major, uint64(binary.BigEndian.Uint32(f.b[i:])), i + 4
	case 27:
		return major, binary.BigEndian.Uint64(f.b[i:]), i + 8
	case 31:
		return major, indefinite, i
	}
	return major, uint64(info), i
}

// tags passes over tags.
func (f *cborFinder) tags(i int) int {
	for {
		major, _, end := f.head(i)
		if major != cborTag {
			return i
		}
		i = end
	}
}

const breakByte = 0xff

// skip returns the end of the item at i.
func (f *cborFinder) skip(i int) int {
	major, arg, i := f.head(i)
	switch major {
	case cborBytes, cborText:
		if arg != indefinite {
			return i + int(arg)
		}
	case cborArray, cborMap:
		if arg != indefinite {
			if major == cborMap {
				arg *= 2
			}
			for ; arg > 0; arg-- {
				i = f.skip(i)
			}
			return i
		}
	case cborTag:
		return f.skip(i)
	default:
		return i
	}
	for f.b[i] != breakByte {
		i = f.skip(i)
	}
	return i + 1
}

// value fills the slots of t and below from the item at i and returns its end.
func (f *cborFinder) value(i int, t *Tree) (end int, err error) {
	if len(t.slots) > 0 {
		v, err := f.decode(i, f.skip(i))
		if err != nil {
			return 0, err
		}
		put(t.slots, v, f.pass)
	}
	i = f.tags(i)
	major, n, at := f.head(i)
	if len(t.kids) == 0 || major != cborArray && major != cborMap {
		return f.skip(i), nil
	}
	var done uint64
	for k := uint64(0); n == indefinite && f.b[at] != breakByte || n != indefinite && k < n; k++ {
		var kid int
		if major == cborArray {
			kid = t.find(func(kid *Tree) bool { return uint64(kid.index) == k && kid.index >= 0 })
		} else {
			name, end := f.key(at)
			at = end
			kid = t.find(func(kid *Tree) bool { return kid.name == name })
		}
		if kid < 0 || kid < 64 && done>>kid&1 == 1 {
			at = f.skip(at)
			continue
		}
		done |= 1 << (kid & 63)
		if at, err = f.value(at, t.kids[kid]); err != nil {
			return 0, err
		}
	}
	if n == indefinite {
		at++
	}
	return at, nil
}

func (t *Tree) find(is func(*Tree) bool) int {
	for i, kid := range t.kids {
		if is(kid) {
			return i
		}
	}
	return -1
}

// key reads the key of a map entry: text, or a number as text.
func (f *cborFinder) key(i int) (name string, end int) {
	end = f.skip(i)
	i = f.tags(i)
	switch major, arg, at := f.head(i); {
	case major == cborText && arg != indefinite:
		return unsafe.String(unsafe.SliceData(f.b[at:end]), end-at), end
	case major == cborUnsigned:
		return fmt.Sprint(arg), end
	}
	v, err := f.decode(i, end)
	if err != nil {
		return "", end
	}
	return fmt.Sprint(v), end
}

// decode returns the item in [i, end). Of tags only those of big numbers count.
func (f *cborFinder) decode(i, end int) (any, error) {
	switch major, arg, at := f.head(i); {
	case major == cborTag && arg != 2 && arg != 3:
		return f.decode(at, end)
	case major == cborUnsigned:
		return wholeUnsigned(arg), nil
	case major == cborNegative && arg < 1<<63:
		return whole(-1 - int64(arg)), nil
	case major == cborText && arg != indefinite:
		return string(f.b[at:end]), nil
	case major == cborSimple && f.b[i] == 0xfb:
		return math.Float64frombits(arg), nil
	case major == cborSimple && f.b[i] == 0xfa:
		return float64(math.Float32frombits(uint32(arg))), nil
	}
	var v any
	if err := cborMode.Unmarshal(f.b[i:end], &v); err != nil {
		return nil, notCBOR(err)
	}
	return plain(v), nil
}

// plain turns what libraries decode into the types of [Slot].
func plain(v any) any {
	switch x := v.(type) {
	case nil, bool, string:
		return x
	case float64:
		return x
	case float32:
		return float64(x)
	case uint64:
		return wholeUnsigned(x)
	case int64:
		return whole(x)
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case big.Int:
		f, _ := new(big.Float).SetInt(&x).Float64()
		return f
	case time.Time:
		return x.UTC().Format(time.RFC3339Nano)
	case cbor.Tag:
		return plain(x.Content)
	case []any:
		for i := range x {
			x[i] = plain(x[i])
		}
		return x
	case map[string]any:
		for k := range x {
			x[k] = plain(x[k])
		}
		return x
	case map[any]any:
		m := make(map[string]any, len(x))
		for k, inner := range x {
			m[fmt.Sprint(plain(k))] = plain(inner)
		}
		return m
	case cbor.ByteString:
		return base64.StdEncoding.EncodeToString([]byte(x))
	}
	return nil
}
