package rules

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/vm"
	"github.com/tidwall/gjson"

	"holdfast/gateway/event"
	"holdfast/rules/codec"
	"holdfast/rules/window"
)

// slot is a payload field as some rules read it: one path as one kind. Rules
// that read the same field as the same kind share a slot, and with it the work
// of converting the value.
type slot struct {
	codec.Slot
	kind     kind
	errMiss  error
	errRange error

	taken uint64 // the frame's pass in which value and err were made
	value any
	err   error

	// What expressions call, made once for all that read the slot.
	get, maybe func(...any) (any, error)
}

// frame is what the expressions of one engine look at: the event at hand and
// the fields of its payload, found when the first of them is asked for.
type frame struct {
	ev      *event.Event
	pane    *window.Pane
	plan    *codec.Tree
	codec   codec.Codec // of the topic; nil: by content type
	pass    uint64
	decoded bool
	err     error // the payload as a whole has no fields
	slots   []*slot
	plans   []plan   // that rules share
	uses    *[]*slot // where slot notes which ones the rule being compiled uses
	tables  map[string]*Table
	vm      vm.VM
	trace   *tracer // nil unless an event is to be explained
}

func newFrame() *frame {
	return &frame{vm: vm.VM{MemoryBudget: maxMemory}, tables: map[string]*Table{}}
}

// begin turns to the next event, of which the rules in plan may ask.
func (f *frame) begin(ev *event.Event, plan *codec.Tree, c codec.Codec) {
	f.ev, f.plan, f.codec = ev, plan, c
	f.pass++
	f.decoded = false
}

// slot returns the slot for a path read as a kind.
func (f *frame) slot(path []string, k kind, bare bool) *slot {
	name := pathName(path)
	i := slices.IndexFunc(f.slots, func(s *slot) bool {
		return s.kind == k && s.Bare == bare && slices.Equal(s.Path, path)
	})
	if i < 0 {
		i = len(f.slots)
		f.slots = append(f.slots, &slot{Slot: codec.Slot{Path: path, Bare: bare}, kind: k,
			errMiss:  fmt.Errorf("field %q is missing", name),
			errRange: fmt.Errorf("field %q is out of the range of numbers", name)})
		s := f.slots[i]
		s.get = func(...any) (any, error) { return f.get(s) }
		s.maybe = func(...any) (any, error) { return f.maybe(s) }
	}
	s := f.slots[i]
	if f.uses != nil && !slices.Contains(*f.uses, s) {
		*f.uses = append(*f.uses, s)
	}
	return s
}

// maxPlans bounds the plans that are compared with what a rule needs.
const maxPlans = 64

// plan is how some slots are found.
type plan struct {
	slots []*slot
	tree  *codec.Tree
}

// planFor returns the tree of some slots. Rules that read the same fields share
// one, which then is in a cache when the next of them comes.
func (f *frame) planFor(slots []*slot) *codec.Tree {
	for _, p := range f.plans {
		if slices.Equal(p.slots, slots) {
			return p.tree
		}
	}
	tree := &codec.Tree{}
	for _, s := range slots {
		tree.Add(&s.Slot)
	}
	if len(f.plans) < maxPlans {
		f.plans = append(f.plans, plan{slots, tree})
	}
	return tree
}

// pathName writes a path as one would in an expression.
func pathName(path []string) string { return strings.Join(path, ".") }

// format is that of the payload at hand. What rules emit says itself what it is.
func (f *frame) format() codec.Codec {
	c := f.codec
	if c == nil || f.ev.Source == "rule" {
		c = codec.ByContentType(f.ev.ContentType)
	}
	if s, ok := c.(codec.Series); ok {
		return s.At(float64(f.ev.Received) / 1e9)
	}
	return c
}

// readings takes the payload at hand apart if it has several readings.
func (f *frame) readings() [][]byte {
	if s, ok := f.format().(codec.Series); ok {
		return s.Split(f.ev.Payload)
	}
	return nil
}

// contentType is that of the payload at hand where it is passed on under another
// topic: what the topic says about the format must not get lost.
func (f *frame) contentType() string {
	if f.codec == nil || f.ev.Source == "rule" {
		return f.ev.ContentType
	}
	return codec.ContentType(f.codec)
}

// find looks a slot up in the payload: false if the field is absent or null.
func (f *frame) find(s *slot) (bool, error) {
	if !f.decoded {
		f.decoded = true
		f.err = nil
		if err := f.format().Find(f.ev.Payload, f.plan, f.pass); err != nil {
			f.err = &payloadError{err}
		}
	}
	if f.err == nil && s.Found(f.pass) {
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
	case s.Raw == "":
		s.value, s.err = s.convertValue()
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

// convert makes the value of JSON.
func (s *slot) convert() (any, error) {
	switch first := s.Raw[0]; {
	case s.kind == number && (first == '-' || first >= '0' && first <= '9'):
		n, err := strconv.ParseFloat(s.Raw, 64)
		if err != nil {
			return nil, s.errRange
		}
		return n, nil
	case s.kind == text && first == '"':
		return unquote(s.Raw), nil
	case s.kind == truth && (first == 't' || first == 'f'):
		return first == 't', nil
	case s.kind == anything:
		return s.convertAny()
	}
	return nil, s.mismatch(rawKind(s.Raw))
}

func (s *slot) mismatch(is string) error {
	return fmt.Errorf("field %q is %s, not %v", pathName(s.Path), is, s.kind)
}

func (s *slot) convertAny() (any, error) {
	r := gjson.Parse(s.Raw)
	switch r.Type {
	case gjson.String:
		return unquote(s.Raw), nil
	case gjson.Number:
		const exact = 1 << 53
		if r.Num >= exact || r.Num <= -exact {
			if n, err := strconv.ParseInt(s.Raw, 10, 64); err == nil {
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

// convertValue makes the value of what a codec has decoded.
func (s *slot) convertValue() (any, error) {
	v := s.Value
	if plain, ok := v.(codec.Plain); ok {
		return s.convertPlain(string(plain))
	}
	switch s.kind {
	case anything:
		return v, nil
	case number:
		if n, ok := toNumber(v); ok {
			return n, nil
		}
	default:
		if k := kindOfValue(v); k == s.kind {
			return v, nil
		}
	}
	return nil, s.mismatch(describe(v))
}

// convertPlain makes the value of text by what the rule takes it for.
func (s *slot) convertPlain(plain string) (any, error) {
	trimmed := strings.TrimSpace(plain)
	n, err := strconv.ParseFloat(trimmed, 64)
	isNumber := err == nil && !math.IsInf(n, 0) && !math.IsNaN(n) && !strings.ContainsAny(trimmed, "xX_pP")
	switch {
	case (s.kind == number || s.kind == anything) && isNumber:
		return n, nil
	case s.kind == text || s.kind == anything:
		return plain, nil
	case s.kind == truth && (trimmed == "true" || trimmed == "false"):
		return trimmed == "true", nil
	}
	return nil, s.mismatch("text")
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
