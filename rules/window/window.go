package window

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/gateway/event"
)

// Errors of Add. The window is unchanged when one of them is returned.
var (
	ErrLate   = errors.New("the event is late: its window has closed")
	ErrKeys   = errors.New("too many keys are open in the window; raise its max_keys")
	ErrRows   = errors.New("the window keeps too many events; raise its max_rows")
	ErrNumber = errors.New("not a finite number")
	ErrTruth  = errors.New("not true or false")
	ErrValue  = errors.New("not a number, text or truth value")
	ErrTime   = errors.New("the time is not between 1970 and 2223")
)

// MaxTime is the first instant that windows do not take. It leaves room for
// adding any window length to an event time without overflow.
const MaxTime event.Time = 8e18

// maxMark is the greatest watermark: adding a length does not overflow.
const maxMark event.Time = 91e17

// MaxLength is the longest that a window, a gap or a time to expire can be.
const MaxLength = 366 * 24 * time.Hour

// Config says what a window is.
type Config struct {
	// Assign is one of Tumbling, Hopping, Sliding, Session, Count and State.
	Assign Assigner
	// MaxKeys bounds the keys that have an open pane or a waiting row at a
	// time; 0 means 10,000.
	MaxKeys int
	// MaxRows bounds the rows that are kept one by one at a time, waiting for
	// their turn or inside a sliding window; 0 means 100,000.
	MaxRows int
	// Expire is how long a key may be silent before count and state windows
	// close its pane unfinished, and before its last sample no longer counts
	// as the predecessor of its next one (rate, increase, time_avg). 0 is never.
	Expire time.Duration
	// InOrder promises that rows come in order of time, as they do by receive
	// time. Then none has to wait for older ones. A row that breaks the promise
	// in a window that needs it is late.
	InOrder bool
}

// Window assigns rows to panes and aggregates these. It is used by one
// goroutine at a time.
//
// Methods append the panes that they close to dst. The Values of these panes
// are valid until the next call with an empty dst.
type Window struct {
	cfg    Config
	aggs   []Aggregate
	keys   keys
	groups groups
	rows   rows
	kind   kind
	held   held // rows that wait for the watermark
	tag    byte // of the kind, in the state

	ordered   bool // rows are taken in order of time
	keeps     bool // the kind keeps rows
	row       Row  // at hand; here so that it need not be allocated
	started   bool // there is a watermark
	changed   bool // rows came since the last early results
	watermark event.Time
	floor     event.Time // ordered: no older row is taken
}

// Assigner says which panes a row belongs to.
type Assigner interface {
	assign(w *Window) (kind, error)
}

// kind does the work of an Assigner. Panes are sorted by the Window.
type kind interface {
	// ordered tells that rows must come in order of time.
	ordered() bool
	// late tells whether all panes of a row at t have closed; key is -1 if the
	// window does not know it.
	late(key int32, t event.Time) bool
	// add puts a row in.
	add(dst []Pane, key int32, row *Row) []Pane
	// advance closes what ends at the watermark or before.
	advance(dst []Pane, at event.Time) []Pane
	// due is the least watermark at which advance closes a pane.
	due() (event.Time, bool)
	// early appends results of open panes that have changed.
	early(dst []Pane) []Pane
	// flush closes all panes and forgets everything.
	flush(dst []Pane) []Pane
	appendState(b []byte) []byte
	readState(r *reader)
}

// Row is what one event gives to a window.
type Row struct {
	Key    string
	Time   event.Time
	Offset uint64 // of the event, in its stream
	Epoch  uint64 // of the event
	Holds  bool   // the condition of a State window
	Values []Value
}

// Pane is the result of one window of one key.
type Pane struct {
	Key        string
	Start, End event.Time
	Rows       uint64
	Offset     uint64  // the greatest of its events
	Epoch      uint64  // of that event
	Early      bool    // it is still open: a result on request
	Expired    bool    // its key fell silent before it was complete
	Values     []Value // one for each Aggregate, in their order
}

// New returns an empty window. Errors are those of the configuration.
func New(cfg Config, aggs []Aggregate) (*Window, error) {
	if cfg.MaxKeys == 0 {
		cfg.MaxKeys = 10000
	}
	if cfg.MaxRows == 0 {
		cfg.MaxRows = 100000
	}
	if cfg.MaxKeys < 0 || cfg.MaxRows < 0 || cfg.MaxKeys > 1<<30 || cfg.MaxRows > 1<<30 {
		return nil, fmt.Errorf("new window: max keys %d and max rows %d must be positive and less than 2^30", cfg.MaxKeys, cfg.MaxRows)
	}
	if cfg.Expire < 0 || cfg.Expire > MaxLength {
		return nil, fmt.Errorf("new window: expire is %v, it must be between 0 and %v", cfg.Expire, MaxLength)
	}
	w := &Window{cfg: cfg, aggs: slices.Clone(aggs)}
	if err := w.init(); err != nil {
		return nil, fmt.Errorf("new window: %w", err)
	}
	return w, nil
}

// init makes the window empty.
func (w *Window) init() (err error) {
	*w = Window{cfg: w.cfg, aggs: w.aggs, keys: newKeys(w.cfg.MaxKeys)}
	if err = w.groups.init(w.aggs, event.Time(w.cfg.Expire)); err != nil {
		return err
	}
	w.rows = rows{width: w.groups.width, max: w.cfg.MaxRows}
	w.held.rows = &w.rows
	if w.kind, err = w.cfg.Assign.assign(w); err != nil {
		return err
	}
	w.ordered = w.kind.ordered() || len(w.groups.carriers) > 0
	return nil
}

// length checks a duration of an assigner.
func length(what string, d time.Duration) error {
	if d < time.Millisecond || d > MaxLength {
		return fmt.Errorf("%s is %v, it must be between 1ms and %v", what, d, MaxLength)
	}
	return nil
}

// Add puts a row into the panes that it belongs to. The row's values are
// copied. On an error nothing has changed; ErrLate leaves it to the caller to
// count the event and to hand it out.
func (w *Window) Add(dst []Pane, row Row) ([]Pane, error) {
	if len(dst) == 0 {
		w.groups.reuse()
	}
	if row.Time < 0 || row.Time >= MaxTime {
		return dst, ErrTime
	}
	w.row = row
	dst, err := w.admit(dst, &w.row)
	w.row = Row{} // its values are not ours
	return dst, err
}

// admit refuses a row, lets it wait or takes it.
func (w *Window) admit(dst []Pane, row *Row) ([]Pane, error) {
	if err := w.groups.check(row); err != nil {
		return dst, err
	}
	key := w.keys.find(row.Key)
	if w.ordered && row.Time < w.floor || w.kind.late(key, row.Time) {
		return dst, ErrLate
	}
	key, err := w.keys.admit(key, row.Key)
	if err != nil {
		return dst, err
	}
	wait := w.ordered && !w.cfg.InOrder && (!w.started || row.Time > w.watermark)
	if (wait || w.keeps) && w.rows.full() {
		return dst, ErrRows
	}
	if wait {
		w.keys.hold(key)
		w.held.push(w.rows.put(key, row))
		w.changed = true
		return dst, nil
	}
	from := len(dst)
	dst = w.take(dst, key, row)
	sortPanes(dst[from:])
	return dst, nil
}

// take gives a row whose turn has come to the kind.
func (w *Window) take(dst []Pane, key int32, row *Row) []Pane {
	if w.ordered {
		w.floor = max(w.floor, row.Time)
	}
	w.changed = true
	return w.kind.add(dst, key, row)
}

// release takes the waiting rows up to a time, in order of time, at equal
// times of arrival.
func (w *Window) release(dst []Pane, at event.Time) []Pane {
	for w.held.len() > 0 && w.held.first() <= at {
		h := w.held.pop()
		key := w.rows.row(h, &w.row)
		dst = w.take(dst, key, &w.row)
		w.rows.drop(h)
		w.keys.release(key)
	}
	return dst
}

// Advance moves the watermark to at, unless it is there or beyond, and appends
// the panes that this closes to dst, by end and key.
func (w *Window) Advance(dst []Pane, at event.Time) []Pane {
	at = max(-MaxTime, min(at, maxMark))
	if w.started && at <= w.watermark {
		return dst
	}
	if len(dst) == 0 {
		w.groups.reuse()
	}
	w.watermark, w.started = at, true
	from := len(dst)
	dst = w.release(dst, at)
	if w.ordered {
		w.floor = max(w.floor, at)
	}
	dst = w.kind.advance(dst, at)
	sortPanes(dst[from:])
	return dst
}

// Early appends a result for each open pane of a key that has got rows since
// its last one, by end and key. Rows that still wait for the watermark are not
// in it. Sliding windows have no early results: they give one for each row.
func (w *Window) Early(dst []Pane) []Pane {
	if len(dst) == 0 {
		w.groups.reuse()
	}
	from := len(dst)
	dst = w.kind.early(dst)
	w.changed = false
	sortPanes(dst[from:])
	return dst
}

// Changed reports whether rows have come since the last call of Early.
func (w *Window) Changed() bool { return w.changed }

// Flush appends all open panes to dst, by end and key, and forgets the
// watermark: the next row may have any time.
func (w *Window) Flush(dst []Pane) []Pane {
	if len(dst) == 0 {
		w.groups.reuse()
	}
	from := len(dst)
	dst = w.release(dst, MaxTime)
	dst = w.kind.flush(dst)
	w.watermark, w.floor, w.started, w.changed = 0, 0, false, false
	sortPanes(dst[from:])
	return dst
}

// Due returns the least watermark that would close a pane or take a waiting
// row; false if there is nothing of the kind.
func (w *Window) Due() (event.Time, bool) {
	due, ok := w.kind.due()
	if w.held.len() > 0 {
		if t := w.held.first(); !ok || t < due {
			return t, true
		}
	}
	return due, ok
}

// Watermark returns the watermark; false before the first Advance.
func (w *Window) Watermark() (event.Time, bool) { return w.watermark, w.started }

// Keys returns the number of keys that have an open pane or a waiting row.
func (w *Window) Keys() int { return w.keys.live }

// Rows returns the number of rows that are kept one by one.
func (w *Window) Rows() int { return w.rows.n }

func comparePanes(a, b Pane) int {
	return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Key, b.Key))
}

// sortPanes brings panes in order. Those of one key and end stay as they are:
// by start, or for sliding windows by row.
func sortPanes(panes []Pane) {
	if !slices.IsSortedFunc(panes, comparePanes) {
		slices.SortStableFunc(panes, comparePanes)
	}
}
