package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// size formats a number of bytes in binary units with three digits.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, u := float64(n)/1024, 0
	for f >= 999.5 && u < len(units)-1 {
		f /= 1024
		u++
	}
	return fmt.Sprintf("%s %ciB", digits3(f), units[u])
}

// count formats n with its thousands apart.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// rate formats events per second.
func rate(perSecond float64) string {
	if perSecond <= 0 {
		return "0/s"
	}
	if perSecond >= 999.5 {
		return count(uint64(perSecond+0.5)) + "/s"
	}
	return digits3(perSecond) + "/s"
}

// digits3 formats 0 < f < 1000 with up to three digits.
func digits3(f float64) string {
	decimals := 0
	switch {
	case f < 9.995:
		decimals = 2
	case f < 99.95:
		decimals = 1
	}
	s := strconv.FormatFloat(f, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// age formats a duration by its two largest units: 3d4h, 2m5s, 12s.
func age(d time.Duration) string {
	d = max(d, 0)
	units := []struct {
		name string
		d    time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	if d < time.Second {
		return "0s"
	}
	for i, u := range units {
		if d < u.d {
			continue
		}
		s := strconv.FormatInt(int64(d/u.d), 10) + u.name
		if i+1 < len(units) {
			if rest := (d % u.d) / units[i+1].d; rest > 0 {
				s += strconv.FormatInt(int64(rest), 10) + units[i+1].name
			}
		}
		return s
	}
	return "0s"
}

// readable returns a payload on one line: as text if all of it is printable,
// with line ends and tabs escaped, else in hexadecimal after 0x. Nothing in
// it can steer the terminal.
func readable(payload []byte) string {
	if !utf8.Valid(payload) {
		return "0x" + hex.EncodeToString(payload)
	}
	var b strings.Builder
	for _, r := range string(payload) {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			return "0x" + hex.EncodeToString(payload)
		}
	}
	return b.String()
}

// writeLine writes v as one line of JSON.
func writeLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeJSON writes v as JSON that people can read.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// firstLine returns the first line of some output.
func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}
