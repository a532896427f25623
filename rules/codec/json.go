package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"
)

type jsonCodec struct{}

func (jsonCodec) String() string { return "json" }

var errNotJSON = errors.New("the payload is not JSON")

// Find implements [Codec]. Slots get parts of the payload as they stand.
func (jsonCodec) Find(payload []byte, t *Tree, pass uint64) error {
	if err := Check(payload); err != nil {
		return err
	}
	// Events are read-only, so the fields may be parts of the payload.
	s := unsafe.String(unsafe.SliceData(payload), len(payload))
	f := finder{pass}
	i := skipSpace(s, 0)
	switch {
	case s[i] == '{':
		f.object(s, i, t)
	case s[i] == '[':
		f.array(s, i, t)
		f.take(t.bare, s[i:skipValue(s, i)])
	default:
		f.take(t.bare, s[i:skipValue(s, i)])
	}
	return nil
}

// AppendJSON implements [Codec].
func (jsonCodec) AppendJSON(dst, payload []byte) ([]byte, error) {
	if len(payload) > MaxDepth && tooDeep(string(payload)) {
		return dst, errDeep
	}
	b := bytes.NewBuffer(dst)
	if json.Compact(b, payload) != nil {
		return dst, errNotJSON
	}
	return b.Bytes(), nil
}

// finder walks a payload that is known to be valid JSON.
type finder struct{ pass uint64 }

func (f *finder) take(slots []*Slot, raw string) {
	if raw[0] == 'n' {
		return // null counts as absent
	}
	for _, s := range slots {
		s.Raw, s.Value, s.pass = raw, nil, f.pass
	}
}

func (f *finder) found(w *Tree, s string, i, end int) {
	f.take(w.slots, s[i:end])
	switch {
	case len(w.kids) == 0:
	case s[i] == '{':
		f.object(s, i, w)
	case s[i] == '[':
		f.array(s, i, w)
	}
}

// object looks for the fields of w in the object that begins at s[i]. Of equal
// names the first one counts. All of s is known to be valid JSON.
func (f *finder) object(s string, i int, w *Tree) {
	var done uint64 // kids found, by index; the 65th and later are looked up again
	left := len(w.kids)
	i = skipSpace(s, i+1)
	for s[i] == '"' && left > 0 {
		from, escaped := i+1, false
		for i++; s[i] != '"'; i++ {
			if s[i] == '\\' {
				escaped = true
				i++
			}
		}
		name := s[from:i]
		if escaped {
			name = gjson.Parse(s[from-1 : i+1]).Str
		}
		i = skipSpace(s, skipSpace(s, i+1)+1)
		end := skipValue(s, i)
		for k, kid := range w.kids {
			if kid.name != name {
				continue
			}
			if bit := uint64(1) << (k & 63); k > 63 || done&bit == 0 {
				if k <= 63 {
					done |= bit
					left--
				}
				f.found(kid, s, i, end)
			}
			break
		}
		if i = skipSpace(s, end); s[i] == ',' {
			i = skipSpace(s, i+1)
		}
	}
}

// array looks for the elements of w, whose names are indexes.
func (f *finder) array(s string, i int, w *Tree) {
	last := -1
	for _, kid := range w.kids {
		last = max(last, kid.index)
	}
	i = skipSpace(s, i+1)
	for n := 0; n <= last && s[i] != ']'; n++ {
		end := skipValue(s, i)
		for _, kid := range w.kids {
			if kid.index == n {
				f.found(kid, s, i, end)
			}
		}
		if i = skipSpace(s, end); s[i] == ',' {
			i = skipSpace(s, i+1)
		}
	}
}

// tooDeep reports whether s, which may be no JSON at all, opens more than
// MaxDepth lists and objects inside each other.
func tooDeep(s string) bool {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			for i++; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the value that begins at s[i].
func skipValue(s string, i int) int {
	switch s[i] {
	case '"':
		return skipString(s, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch s[i] {
			case '"':
				i = skipString(s, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(s) {
		switch s[i] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			return i
		}
		i++
	}
	return i
}

func skipString(s string, i int) int {
	for i++; s[i] != '"'; i++ {
		if s[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// Fields calls fn for the top-level fields of a JSON object in their order; the
// name is decoded, quoted and value are as they stand. It reports whether s is
// an object. s must be valid JSON.
func Fields(s string, fn func(name, quoted, value string)) bool {
	i := skipSpace(s, 0)
	if i == len(s) || s[i] != '{' {
		return false
	}
	i = skipSpace(s, i+1)
	for s[i] == '"' {
		end := skipString(s, i)
		quoted := s[i:end]
		name := quoted[1 : len(quoted)-1]
		if strings.IndexByte(name, '\\') >= 0 {
			name = gjson.Parse(quoted).Str
		}
		i = skipSpace(s, skipSpace(s, end)+1)
		end = skipValue(s, i)
		fn(name, quoted, s[i:end])
		if i = skipSpace(s, end); s[i] == ',' {
			i = skipSpace(s, i+1)
		}
	}
	return true
}

// Check returns an error unless the payload is JSON.
func Check(payload []byte) error {
	s := unsafe.String(unsafe.SliceData(payload), len(payload))
	switch {
	case len(payload) > MaxDepth && tooDeep(s):
		return errDeep
	case !gjson.Valid(s):
		return errNotJSON
	}
	return nil
}

// Trim returns a JSON value without space around it.
func Trim(s string) string { return strings.Trim(s, " \n\t\r") }
