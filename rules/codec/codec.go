package codec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxDepth is how many objects and lists may be inside each other.
const MaxDepth = 2000

// Codec is a format of payloads. It has no state.
type Codec interface {
	// Find fills the slots of the tree from a payload; slots whose field is
	// absent are not touched. On an error the slots count as not filled.
	Find(payload []byte, t *Tree, pass uint64) error
	// AppendJSON appends the whole payload as JSON, on one line.
	AppendJSON(dst, payload []byte) ([]byte, error)
	// String is the name of the format in configurations.
	String() string
}

// The formats.
var (
	JSON        Codec = jsonCodec{}
	CBOR        Codec = cborCodec{}
	MessagePack Codec = msgpackCodec{}
	SenML       Codec = senmlCodec{}
	SenMLCBOR   Codec = senmlCodec{cbor: true}
	Text        Codec = textCodec{}
)

// All lists the formats.
func All() []Codec { return []Codec{JSON, CBOR, MessagePack, SenML, SenMLCBOR, Text} }

// ByName returns the format of a name.
func ByName(name string) (Codec, bool) {
	for _, c := range All() {
		if c.String() == name {
			return c, true
		}
	}
	return nil, false
}

// ByContentType returns the format of a MIME type, whose parameters do not
// matter; [JSON] if the type is empty or unknown.
func ByContentType(mime string) Codec {
	if mime == "" || mime == "application/json" {
		return JSON
	}
	mime, _, _ = strings.Cut(mime, ";")
	switch strings.ToLower(strings.TrimSpace(mime)) {
	case "application/cbor":
		return CBOR
	case "application/msgpack", "application/x-msgpack", "application/vnd.msgpack":
		return MessagePack
	case "application/senml+json":
		return SenML
	case "application/senml+cbor":
		return SenMLCBOR
	case "text/plain":
		return Text
	}
	if strings.HasSuffix(strings.ToLower(strings.TrimSpace(mime)), "+cbor") {
		return CBOR
	}
	return JSON
}

// ContentType returns the MIME type of a format.
func ContentType(c Codec) string {
	switch c {
	case CBOR:
		return "application/cbor"
	case MessagePack:
		return "application/vnd.msgpack"
	case SenML:
		return "application/senml+json"
	case SenMLCBOR:
		return "application/senml+cbor"
	case Text:
		return "text/plain"
	}
	return "application/json"
}

// Slot receives one field of a payload.
type Slot struct {
	Path []string
	Bare bool // a payload that is no object goes here

	// Raw is the field as JSON; if it is empty the field is Value: bool,
	// float64, int64 (whole numbers beyond 2^53), string, Plain, []any or
	// map[string]any.
	Raw   string
	Value any

	pass uint64
}

// Plain is a text of which only the reader knows whether it means a number.
type Plain string

// Found reports whether the field was there in the pass.
func (s *Slot) Found(pass uint64) bool { return s.pass == pass }

// Tree is the fields that are wanted of some payloads.
type Tree struct {
	name  string
	index int // the name as the index of a list; -1 if it is none
	slots []*Slot
	kids  []*Tree
	bare  []*Slot // at the root
}

// Add puts a slot into the tree. A slot may be in several trees.
func (t *Tree) Add(s *Slot) {
	if s.Bare {
		t.bare = append(t.bare, s)
	}
	for _, name := range s.Path {
		kid := t.kid(name)
		if kid == nil {
			kid = &Tree{name: name, index: -1}
			if i, err := strconv.Atoi(name); err == nil && strconv.Itoa(i) == name {
				kid.index = i
			}
			t.kids = append(t.kids, kid)
		}
		t = kid
	}
	t.slots = append(t.slots, s)
}

func (t *Tree) kid(name string) *Tree {
	for _, k := range t.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}

// put fills slots with a decoded value; nil counts as absent.
func put(slots []*Slot, v any, pass uint64) {
	if v == nil {
		return
	}
	for _, s := range slots {
		s.Raw, s.Value, s.pass = "", v, pass
	}
}

// spread fills the slots of t and below with a decoded value.
func (t *Tree) spread(v any, pass uint64) {
	put(t.slots, v, pass)
	for _, kid := range t.kids {
		switch x := v.(type) {
		case map[string]any:
			if inner, ok := x[kid.name]; ok {
				kid.spread(inner, pass)
			}
		case []any:
			if kid.index >= 0 && kid.index < len(x) {
				kid.spread(x[kid.index], pass)
			}
		}
	}
}

// root fills the slots from a payload that was decoded as a whole.
func (t *Tree) root(v any, pass uint64) {
	if _, object := v.(map[string]any); !object {
		put(t.bare, v, pass)
	}
	t.spread(v, pass)
}

var errDeep = fmt.Errorf("the payload has more than %d lists and objects inside each other", MaxDepth)

var errTrailing = errors.New("something follows behind the value")

// whole makes a whole number a float64 if that is exact.
func whole(n int64) any {
	const exact = 1 << 53
	if n > exact || n < -exact {
		return n
	}
	return float64(n)
}

func wholeUnsigned(n uint64) any {
	if n > 1<<63-1 {
		return float64(n)
	}
	return whole(int64(n))
}
