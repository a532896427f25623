package rules

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/expr-lang/expr/vm"
	"github.com/tidwall/gjson"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

var (
	errNotJSON = errors.New("the payload is not JSON")
	errDeep    = fmt.Errorf("the payload has more than %d lists and objects inside each other", maxDepth)
)

// maxDepth bounds the stack that checking a payload takes.
const maxDepth = 2000

// slot is a payload field as some rules read it: one path as one kind. Rules
// that read the same field as the same kind share a slot, and with it the work
// of converting the value.
type slot struct {
	path     []string
	kind     kind
	bare     bool // the path is "value", which also stands for a whole payload that is no object
	errMiss  error
	errRange error

	seen  uint64 // the frame's pass in which raw was found
	taken uint64 // the frame's pass in which value and err were made
	raw   string // JSON, part of the payload
	value any
	err   error
}

// frame is what the expressions of one engine look at: the event at hand and
// the fields of its payload, found when the first of them is asked for.
type frame struct {
	ev      *event.Event
	pane    *window.Pane
	plan    *want
	pass    uint64
	decoded bool
	err     error // the payload as a whole has no fields
	slots   []*slot
	uses    *[]*slot // where slot notes which ones the rule being compiled uses
	vm      vm.VM
	trace   *tracer // nil unless an event is to be explained
}

func newFrame() *frame { return &frame{vm: vm.VM{MemoryBudget: maxMemory}} }

// begin turns to the next event, of which the rules in plan may ask.
func (f *frame) begin(ev *event.Event, plan *want) {
	f.ev, f.plan = ev, plan
	f.pass++
	f.decoded = false
}

// slot returns the slot for a path read as a kind.
func (f *frame) slot(path []string, k kind, bare bool) *slot {
	name := pathName(path)
	i := slices.IndexFunc(f.slots, func(s *slot) bool {
		return s.kind == k && s.bare == bare && slices.Equal(s.path, path)
	})
	if i < 0 {
		i = len(f.slots)
		f.slots = append(f.slots, &slot{path: path, kind: k, bare: bare,
			errMiss:  fmt.Errorf("field %q is missing", name),
			errRange: fmt.Errorf("field %q is out of the range of numbers", name)})
	}
	s := f.slots[i]
	if f.uses != nil && !slices.Contains(*f.uses, s) {
		*f.uses = append(*f.uses, s)
	}
	return s
}

// pathName writes a path as one would in an expression.
func pathName(path []string) string { return strings.Join(path, ".") }

// want is a tree of the fields that some rules name.
type want struct {
	name  string
	index int // the name as the index of an array; -1 if it is none
	slots []*slot
	kids  []*want
	bare  []*slot // at the root: what a payload that is no object goes to
}

// add puts a slot into the tree.
func (w *want) add(s *slot) {
	if s.bare {
		w.bare = append(w.bare, s)
	}
	for _, name := range s.path {
		kid := w.kid(name)
		if kid == nil {
			kid = &want{name: name, index: -1}
			if i, err := strconv.Atoi(name); err == nil && strconv.Itoa(i) == name {
				kid.index = i
			}
			w.kids = append(w.kids, kid)
		}
		w = kid
	}
	w.slots = append(w.slots, s)
}

func (w *want) kid(name string) *want {
	for _, k := range w.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}

// find looks a slot up in the payload: false if the field is absent or null.
func (f *frame) find(s *slot) (bool, error) {
	if !f.decoded {
		f.decode()
	}
	if s.seen == f.pass {
		return true, nil
	}
	return false, f.err
}

// get returns the value of a slot: float64, string or bool as its kind says;
// for a slot of any kind also int64 (whole numbers beyond 2^53), []any and
// map[string]any.
func (f *frame) get(s *slot) (any, error) {
	if s.taken == f.pass {
		return s.value, s.err
	}
	found, err := f.find(s)
	s.taken = f.pass
	switch {
	case err != nil:
		s.value, s.err = nil, err
	case !found:
		s.value, s.err = nil, s.errMiss
	default:
		s.value, s.err = s.convert()
	}
	return s.value, s.err
}

// maybe returns nil where get fails because the field is absent or null.
func (f *frame) maybe(s *slot) (any, error) {
	if found, err := f.find(s); !found {
		return nil, err
	}
	return f.get(s)
}

func (s *slot) convert() (any, error) {
	switch first := s.raw[0]; {
	case s.kind == number && (first == '-' || first >= '0' && first <= '9'):
		n, err := strconv.ParseFloat(s.raw, 64)
		if err != nil {
			return nil, s.errRange
		}
		return n, nil
	case s.kind == text && first == '"':
		return unquote(s.raw), nil
	case s.kind == truth && (first == 't' || first == 'f'):
		return first == 't', nil
	case s.kind == anything:
		return s.convertAny()
	}
	return nil, fmt.Errorf("field %q is %s, not %v", pathName(s.path), rawKind(s.raw), s.kind)
}

func (s *slot) convertAny() (any, error) {
	r := gjson.Parse(s.raw)
	switch r.Type {
	case gjson.String:
		return unquote(s.raw), nil
	case gjson.Number:
		const exact = 1 << 53
		if r.Num >= exact || r.Num <= -exact {
			if n, err := strconv.ParseInt(s.raw, 10, 64); err == nil {
				return n, nil
			}
		}
		if math.IsInf(r.Num, 0) {
			return nil, s.errRange
		}
		return r.Num, nil
	}
	return r.Value(), nil
}

// rawKind names what a JSON value is.
func rawKind(raw string) string {
	switch raw[0] {
	case '"':
		return text.String()
	case 't', 'f':
		return truth.String()
	case '[':
		return list.String()
	case '{':
		return mapping.String()
	}
	return number.String()
}

// unquote returns the text of a JSON string: a part of raw unless there are
// escapes in it.
func unquote(raw string) string {
	if body := raw[1 : len(raw)-1]; strings.IndexByte(body, '\\') < 0 {
		return body
	}
	return gjson.Parse(raw).Str
}

// decode finds the wanted fields in the payload in one pass.
func (f *frame) decode() {
	f.decoded, f.err = true, nil
	payload := f.ev.Payload
	// Events are read-only, so the fields may be parts of the payload.
	s := unsafe.String(unsafe.SliceData(payload), len(payload))
	switch {
	case len(payload) > maxDepth && tooDeep(s):
		f.err = errDeep
		return
	case !gjson.Valid(s):
		f.err = errNotJSON
		return
	}
	i := skipSpace(s, 0)
	switch {
	case s[i] == '{':
		f.object(s, i, f.plan)
	case s[i] == '[':
		f.array(s, i, f.plan)
		f.take(f.plan.bare, s[i:skipValue(s, i)])
	default:
		f.take(f.plan.bare, s[i:skipValue(s, i)])
	}
}

func (f *frame) take(slots []*slot, raw string) {
	if raw[0] == 'n' {
		return // null counts as absent
	}
	for _, s := range slots {
		s.raw, s.seen = raw, f.pass
	}
}

func (f *frame) found(w *want, s string, i, end int) {
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
func (f *frame) object(s string, i int, w *want) {
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
func (f *frame) array(s string, i int, w *want) {
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
// maxDepth lists and objects inside each other.
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
			if depth++; depth > maxDepth {
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
