package codec

import (
	"encoding/json"
	"strings"
)

type textCodec struct{}

func (textCodec) String() string { return "text" }

// Find implements [Codec].
func (textCodec) Find(payload []byte, t *Tree, pass uint64) error {
	if structured(payload) && JSON.Find(payload, t, pass) == nil {
		return nil
	}
	put(t.bare, Plain(payload), pass)
	return nil
}

// AppendJSON implements [Codec]: text becomes a JSON string.
func (textCodec) AppendJSON(dst, payload []byte) ([]byte, error) {
	if structured(payload) {
		if b, err := JSON.AppendJSON(dst, payload); err == nil {
			return b, nil
		}
	}
	b, err := json.Marshal(strings.ToValidUTF8(string(payload), "\uFFFD"))
	return append(dst, b...), err
}

// structured reports whether a payload looks like a JSON object or list.
func structured(payload []byte) bool {
	for _, c := range payload {
		switch c {
		case ' ', '\n', '\t', '\r':
			continue
		}
		return c == '{' || c == '['
	}
	return false
}
