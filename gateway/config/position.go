package config

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// place is a line and a column in characters, both from 1.
type place struct{ line, col int }

// places returns where each byte of a scalar's value stands in the file, and
// as last element the place behind it. Quotes, escapes, folded lines and the
// indentation of blocks make this more than an addition. Where the file does
// not spell the value as expected, every byte is placed at its start.
func (n *node) places() []place {
	w := walker{lines: n.file.lines, want: len(n.value), line: n.line, col: n.col}
	w.skipProperties()
	switch {
	case n.style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		w.block(n.value, n.style&yaml.FoldedStyle != 0)
	case n.style&yaml.DoubleQuotedStyle != 0:
		w.flow('"')
	case n.style&yaml.SingleQuotedStyle != 0:
		w.flow('\'')
	default:
		w.flow(0)
	}
	if len(w.out) >= w.want && string(w.out[:w.want]) == n.value {
		return append(w.at[:w.want:w.want], w.end(w.want))
	}
	all := make([]place, w.want+1)
	for i := range all {
		all[i] = place{n.line, n.col}
	}
	return all
}

// walker reads a scalar again from its source, noting where each byte of the
// value comes from.
type walker struct {
	lines     []string
	want      int // bytes of the value; reading more is of no use
	line, col int // what is read next

	out []byte
	at  []place
}

func (w *walker) text() []rune {
	if w.line < 1 || w.line > len(w.lines) {
		return nil
	}
	return []rune(w.lines[w.line-1])
}

func (w *walker) emit(r rune, from place) {
	before := len(w.out)
	w.out = append(w.out, string(r)...)
	for range len(w.out) - before {
		w.at = append(w.at, from)
	}
}

// end is the place behind the first n bytes.
func (w *walker) end(n int) place {
	if n < len(w.at) {
		return w.at[n]
	}
	return place{w.line, w.col}
}

// skipProperties passes the anchor and the tag before a value.
func (w *walker) skipProperties() {
	text := w.text()
	for w.col <= len(text) && (text[w.col-1] == '&' || text[w.col-1] == '!') {
		for w.col <= len(text) && !blank(text[w.col-1]) {
			w.col++
		}
		for w.col <= len(text) && blank(text[w.col-1]) {
			w.col++
		}
	}
}

func blank(r rune) bool { return r == ' ' || r == '\t' }

// flow reads a plain or quoted scalar, whose lines are folded.
func (w *walker) flow(quote rune) {
	if quote != 0 {
		w.col++
	}
	text := w.text()
	for len(w.out) < w.want {
		here := place{w.line, w.col}
		rest := text[min(w.col-1, len(text)):]
		switch {
		case strings.TrimLeft(string(rest), " \t") == "":
			breaks := w.nextLine()
			if breaks == 0 {
				return
			}
			if breaks == 1 {
				w.emit(' ', here)
			}
			for range breaks - 1 {
				w.emit('\n', here)
			}
			text = w.text()
		case quote == '\'' && rest[0] == '\'':
			w.emit('\'', here)
			w.col += 2
		case quote == '"' && rest[0] == '\\' && len(rest) == 1:
			breaks := w.nextLine()
			if breaks == 0 {
				return
			}
			for range breaks - 1 {
				w.emit('\n', here)
			}
			text = w.text()
		case quote == '"' && rest[0] == '\\':
			r, width := escape(rest[1:])
			if width == 0 {
				return
			}
			w.emit(r, here)
			w.col += 1 + width
		default:
			w.emit(rest[0], here)
			w.col++
		}
	}
}

// nextLine moves to the next line that is not blank, behind its indentation,
// and returns how many line breaks it passed; 0 at the end of the file.
func (w *walker) nextLine() int {
	for breaks := 1; w.line < len(w.lines); breaks++ {
		w.line++
		line := w.lines[w.line-1]
		if rest := strings.TrimLeft(line, " \t"); rest != "" {
			w.col = len(line) - len(rest) + 1
			return breaks
		}
	}
	return 0
}

// escape reads what follows a backslash in double quotes; width 0 means that
// it is not an escape.
func escape(text []rune) (r rune, width int) {
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[text[0]]
	if digits > 0 {
		if len(text) <= digits {
			return 0, 0
		}
		v, err := strconv.ParseUint(string(text[1:1+digits]), 16, 32)
		if err != nil {
			return 0, 0
		}
		return rune(v), 1 + digits
	}
	from, to := []rune(`0abt	nvfre "/\N_LP'`), []rune("\x00\a\b\t\t\n\v\f\r\x1b \"/\\\u0085\u00a0\u2028\u2029'")
	for i := range from {
		if from[i] == text[0] {
			return to[i], 1
		}
	}
	return 0, 0
}

// block reads a literal or folded scalar. Value tells the indentation, which
// the header may set apart from that of the first line.
func (w *walker) block(value string, folded bool) {
	w.line++
	indent := blockIndent(w.lines[min(w.line-1, len(w.lines)):], value)
	var lastBreak place
	var empty []place
	content, lastBlank := false, false
	for ; len(w.out) < w.want && w.line <= len(w.lines); w.line++ {
		text := w.text()
		spaces := 0
		for spaces < len(text) && text[spaces] == ' ' {
			spaces++
		}
		if spaces == len(text) && spaces <= indent {
			empty = append(empty, place{w.line, len(text) + 1})
			continue
		}
		if spaces < indent {
			break
		}
		isBlank := blank(text[indent])
		switch {
		case !content:
		case !folded || lastBlank || isBlank:
			w.emit('\n', lastBreak)
		case len(empty) == 0:
			w.emit(' ', lastBreak)
		}
		for _, p := range empty {
			w.emit('\n', p)
		}
		for i, r := range text[indent:] {
			w.emit(r, place{w.line, indent + 1 + i})
		}
		content, lastBlank, empty = true, isBlank, nil
		lastBreak = place{w.line, len(text) + 1}
	}
	w.line, w.col = lastBreak.line, lastBreak.col
	if content {
		w.emit('\n', lastBreak)
	}
	for _, p := range empty {
		w.emit('\n', p)
	}
}

// blockIndent is how much further the first line with text is indented in the
// file than in the value.
func blockIndent(lines []string, value string) int {
	inFile, inValue := 0, 0
	for _, line := range lines {
		if rest := strings.TrimLeft(line, " "); rest != "" {
			inFile = len(line) - len(rest)
			break
		}
	}
	for line := range strings.Lines(value) {
		if rest := strings.TrimLeft(line, " "); strings.Trim(rest, "\n") != "" {
			inValue = len(line) - len(rest)
			break
		}
	}
	return max(0, inFile-inValue)
}
