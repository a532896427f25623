package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pos is a place in a configuration file. Line and Col count from 1, Col in
// characters; they are 0 where only the file is known.
type Pos struct {
	File      string
	Line, Col int
}

// String formats p as file:line:col, without the parts that are not known.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Error is one mistake in a configuration.
type Error struct {
	Pos    Pos
	Msg    string
	Source string // the source line; empty if there is none to show
	Width  int    // characters to underline from Pos.Col on

	cause error
}

// Error returns the mistake on one line, as file:line:col: message.
func (e *Error) Error() string {
	if e.Pos == (Pos{}) {
		return e.Msg
	}
	return e.Pos.String() + ": " + e.Msg
}

// Unwrap returns what caused the mistake to show, such as a file error.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.cause
}

// Detail returns the mistake with its source line and a caret line below it.
func (e *Error) Detail() string {
	if e.Source == "" || e.Pos.Line == 0 {
		return e.Error()
	}
	source, col := crop(e.Source, e.Pos.Col)
	width := max(1, min(e.Width, utf8.RuneCountInString(source)-col+1))
	number := fmt.Sprintf("%5d", e.Pos.Line)
	return fmt.Sprintf("%s\n%s | %s\n%s | %s%s", e.Error(), number, source,
		strings.Repeat(" ", len(number)), strings.Repeat(" ", col-1), strings.Repeat("^", width))
}

// crop shortens a long line around col and replaces what would move the caret
// or the terminal. It returns the new column.
func crop(line string, col int) (string, int) {
	const most = 120
	text := []rune(line)
	for i, r := range text {
		if r == '\t' {
			text[i] = ' '
		} else if !unicode.IsPrint(r) {
			text[i] = '·'
		}
	}
	col = min(max(col, 1), len(text)+1)
	if len(text) <= most {
		return string(text), col
	}
	from := min(max(0, col-1-most/2), len(text)-most)
	shown := slices.Clone(text[from : from+most])
	if from > 0 {
		shown[0] = '…'
	}
	if from+most < len(text) {
		shown[most-1] = '…'
	}
	return string(shown), col - from
}

// Errors are the mistakes of one or more files. The zero value is ready to
// collect.
type Errors []*Error

// Error returns every mistake with its source line and caret, by position.
func (e Errors) Error() string {
	var b strings.Builder
	for i, one := range e.sorted() {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(one.Detail())
	}
	return b.String()
}

// Unwrap returns the mistakes one by one, for errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// Add collects err: the mistakes in it where it is or wraps [Errors] or an
// [*Error], else a mistake without a position. It ignores nil.
func (e *Errors) Add(err error) {
	var many Errors
	var one *Error
	switch {
	case err == nil:
	case errors.As(err, &many):
		*e = append(*e, many...)
	case errors.As(err, &one):
		if one != nil {
			*e = append(*e, one)
		}
	default:
		*e = append(*e, &Error{Msg: err.Error(), cause: err})
	}
}

// Err returns the collected mistakes by position, each once, or nil if there
// are none.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e.sorted()
}

func (e Errors) sorted() Errors {
	all := slices.Clone(e)
	slices.SortStableFunc(all, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Pos.File, b.Pos.File), cmp.Compare(a.Pos.Line, b.Pos.Line),
			cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	return slices.CompactFunc(all, func(a, b *Error) bool { return a.Pos == b.Pos && a.Msg == b.Msg })
}
