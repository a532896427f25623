package config

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// JSON returns the section as JSON, for data that is written in YAML: keys in
// the order of the file, numbers as they are written, quoted scalars as text.
// Variables are not replaced.
func (s *Section) JSON() []byte { return s.node.appendJSON(nil) }

func (n *node) appendJSON(b []byte) []byte {
	switch n.kind {
	case Null:
		return append(b, "null"...)
	case List:
		b = append(b, '[')
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	case Mapping:
		b = append(b, '{')
		for i, e := range n.entries {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendQuoted(b, e.key.value), ':')
			b = e.value.appendJSON(b)
		}
		return append(b, '}')
	}
	if !n.quoted() {
		if n.value == "true" || n.value == "false" || validNumber(n.value) {
			return append(b, n.value...)
		}
		if f, err := strconv.ParseFloat(n.value, 64); err == nil && strings.IndexByte("+-.0123456789", n.value[0]) >= 0 &&
			!math.IsInf(f, 0) && !math.IsNaN(f) && !strings.ContainsAny(n.value, "xX_pP") {
			return strconv.AppendFloat(b, f, 'g', -1, 64) // such as +1 and .5
		}
	}
	return appendQuoted(b, n.value)
}

func validNumber(text string) bool {
	return text != "" && (text[0] == '-' || text[0] >= '0' && text[0] <= '9') && json.Valid([]byte(text))
}

func appendQuoted(b []byte, text string) []byte {
	quoted, _ := json.Marshal(text) // of text it never fails
	return append(b, quoted...)
}
