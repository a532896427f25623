package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"
)

// appendJSON appends v as JSON on one line. Times become RFC 3339 text,
// durations seconds.
func appendJSON(b []byte, v any) ([]byte, error) {
	switch x := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, x), nil
	case string:
		return appendString(b, x), nil
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return b, fmt.Errorf("the result is %v, which JSON cannot hold", x)
		}
		return appendNumber(b, x), nil
	case int:
		return strconv.AppendInt(b, int64(x), 10), nil
	case int64:
		return strconv.AppendInt(b, x, 10), nil
	case time.Time:
		return appendTime(b, x), nil
	case time.Duration:
		return appendNumber(b, x.Seconds()), nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf) // sorts the keys of maps
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return b, fmt.Errorf("the result cannot become JSON: %w", err)
	}
	return append(b, bytes.TrimRight(buf.Bytes(), "\n")...), nil
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// appendNumber writes f in the shortest form that reads back as f.
func appendNumber(b []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, 64)
}

func appendString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// appendRaw copies a JSON value from a payload: lists and mappings onto one
// line, texts made valid UTF-8, numbers digit by digit.
func appendRaw(b []byte, raw string) []byte {
	switch raw[0] {
	case '{', '[':
		buf := bytes.NewBuffer(b)
		if json.Compact(buf, unsafe.Slice(unsafe.StringData(raw), len(raw))) == nil {
			b = buf.Bytes()
		}
		return b
	case '"':
		return append(b, strings.ToValidUTF8(raw, "\uFFFD")...)
	}
	return append(b, raw...)
}

// fieldNames are the keys of an object, quoted and with what stands before
// their values: {"a": and ,"b":.
func fieldNames(names []string) [][]byte {
	var all [][]byte
	for i, name := range names {
		b := []byte{'{'}
		if i > 0 {
			b[0] = ','
		}
		all = append(all, append(appendString(b, name), ':'))
	}
	return all
}
