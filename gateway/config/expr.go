package config

import "fmt"

// Expr is text in another language, such as a rule's expression, that knows
// where it stands. It is taken as written: ${NAME} is not replaced.
type Expr struct {
	Text string
	Pos  Pos // of the first character of Text

	node *node
}

// IsZero reports whether the expression is empty.
func (e Expr) IsZero() bool { return e.Text == "" }

// String returns the text.
func (e Expr) String() string { return e.Text }

// At returns a mistake in the expression, at width bytes from offset of Text.
// Its position is that in the file, whichever way YAML spells the text.
func (e Expr) At(offset, width int, format string, args ...any) *Error {
	offset = min(max(offset, 0), len(e.Text))
	last := min(offset+max(width, 1), len(e.Text))
	if e.node == nil {
		pos := e.Pos
		pos.Col += offset
		return &Error{Pos: pos, Msg: fmt.Sprintf(format, args...), Width: width}
	}
	return e.node.errorWithin(offset, last, format, args...)
}

// errorWithin returns a mistake at the bytes of a scalar's value from offset
// up to end.
func (n *node) errorWithin(offset, end int, format string, args ...any) *Error {
	places := n.places()
	from, to := places[offset], places[max(end, offset)]
	width := to.col - from.col
	if to.line != from.line {
		width = len([]rune(n.file.line(from.line))) + 1 - from.col
	}
	return n.file.errorAt(from.line, from.col, max(width, 1), format, args...)
}
