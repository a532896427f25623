package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	badger "github.com/dgraph-io/badger/v4"

	"holdfast/gateway/event"
)

var (
	// ErrClosed is returned by a log that is closed or closing.
	ErrClosed = errors.New("the log is closed")
	// ErrFailed is wrapped by every error after the store has failed to write.
	// Nothing is acknowledged any more; the log must be closed and opened
	// again, which verifies what is on disk.
	ErrFailed = errors.New("the store has failed")
	// ErrFull is given to sources while the disk is too full to take events.
	// It passes when space is made.
	ErrFull = errors.New("the disk is full")
	// ErrStreamFull is wrapped by the error that sources get from a full stream
	// whose policy is Reject. It passes when destinations have taken events.
	ErrStreamFull = errors.New("the stream is full")
)

// Log is a set of streams in one Badger store. All writes go through its one
// committer; any number of goroutines may read.
type Log struct {
	opt    Options
	lock   *os.File // held while the store is open
	db     *badger.DB
	epoch  uint64
	clock  *clock
	space  *space
	maps   mappings
	queue  *queue
	stats  stats
	commit commit // of whoever has the queue
	cache  blockCache

	mu         sync.Mutex // guards streams, orders their creation, and lastReplay
	streams    map[string]*Stream
	lastReplay uint64
	held       map[string][]uint16

	processors      map[string]*processorState // committer and StartProcessor
	cursorsAt       time.Time                  // committer: when cursors were last written
	reclaimedAt     time.Time                  // committer: when retention was last looked at
	positionsAt     time.Time                  // committer: when the copy of positions was last written
	positionsCommit uint64
	urgent          atomic.Bool // a cursor must go with the next transaction

	failed   chan struct{}
	failOnce sync.Once
	failure  error

	closing    chan struct{}
	closeOnce  sync.Once
	committer  sync.WaitGroup
	collecting bool // committer: value log files may be waiting for collection

	report Report
}

// Report says what opening the store found, for the operator.
type Report struct {
	NewEpoch string   // why the epoch was renewed; empty if it was not
	SetAside string   // folder that holds a store that did not open
	Notes    []string // what was repaired
}

// Open opens the log in o.Dir, creating it if there is none. A store that
// Badger cannot open is set aside, not deleted, and reported; offsets and
// cursors go on from the copy kept beside it.
func Open(o Options) (*Log, error) {
	o.setDefaults()
	database := filepath.Join(o.Dir, databaseDir)
	if err := os.MkdirAll(database, 0o750); err != nil {
		return nil, fmt.Errorf("create the store: %w", err)
	}
	real, err := realPath(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", o.Dir, err)
	}
	o.Dir, database = real, filepath.Join(real, databaseDir)
	lock, err := lockStore(o.Dir)
	if err != nil {
		return nil, err
	}
	opened := false
	defer func() {
		if !opened {
			_ = lock.Close()
		}
	}()
	l := &Log{
		opt: o, lock: lock,
		space: &space{
			dir: database, ballast: filepath.Join(o.Dir, "ballast"),
			reserve: o.Reserve, allocated: map[string]bool{},
		},
		streams:    map[string]*Stream{},
		processors: map[string]*processorState{},
		failed:     make(chan struct{}),
		closing:    make(chan struct{}),
	}
	l.queue = newQueue(o.QueueBytes)
	l.commit.log = l
	l.cache.limit = o.CacheBytes
	if err := l.space.prepare(); err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", o.Dir, err)
	}
	if err := l.openStore(); err != nil {
		return nil, err
	}
	if err := l.load(); err != nil {
		_ = l.db.Close()
		return nil, fmt.Errorf("open the store in %s: %w", o.Dir, err)
	}
	opened = true
	l.committer.Add(1)
	go l.commitLoop()
	return l, nil
}

// realPath is the path that the kernel shows for maps of files below dir.
func realPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// load reads what the store knows about itself.
func (l *Log) load() error {
	id, renewed, err := loadIdentity(l.opt.Dir)
	if err != nil {
		return err
	}
	l.epoch = id.Epoch
	if renewed {
		l.report.NewEpoch = "the store was copied or restored"
	}
	var saved clockState
	if _, err := l.getJSON(nameKey(keyMeta, "boot"), &saved); err != nil {
		return err
	}
	l.clock = newClock(saved)
	if err := l.loadStreams(); err != nil {
		return err
	}
	if err := l.loadReplays(); err != nil {
		return err
	}
	l.finishLetters()
	if err := l.loadHeld(); err != nil {
		return err
	}
	if err := l.finishReclaims(); err != nil {
		return err
	}
	l.space.check(0)
	l.allocate()
	l.maps.advise(l.space.dir)
	return nil
}

func (l *Log) loadStreams() error {
	saved := map[string]streamState{}
	err := l.scan([]byte{keyStream}, func(k, v []byte) error {
		var st streamState
		if err := json.Unmarshal(v, &st); err != nil {
			return fmt.Errorf("stream %q: %w", k[1:], err)
		}
		saved[string(k[1:])] = st
		return nil
	})
	if err != nil {
		return err
	}
	options := map[string]StreamOptions{}
	for name, st := range saved {
		options[name] = st.given(name)
	}
	for _, o := range l.opt.Streams {
		options[o.Name] = o
	}
	names := make([]string, 0, len(options))
	for name := range options {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		st, old := saved[name]
		if !old {
			st = streamState{ID: l.freeStreamID(saved), First: 1, Next: 1}
			saved[name] = st
		}
		s, err := l.openStream(options[name], st)
		if err != nil {
			return fmt.Errorf("stream %q: %w", name, err)
		}
		l.streams[name] = s
		if !old || s.given != st.Given {
			if err := l.putNow(nameKey(keyStream, name), s.state()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Log) freeStreamID(used map[string]streamState) uint16 {
	var top uint16
	for _, st := range used {
		top = max(top, st.ID)
	}
	return top + 1
}

// openStream finds the segments of a stream: sealed ones by their summaries,
// the newest by its block indexes.
func (l *Log) openStream(o StreamOptions, st streamState) (*Stream, error) {
	s := &Stream{
		log: l, id: st.ID, name: o.Name,
		first: st.First, next: st.Next, gap: st.Gap, dropped: st.Dropped, expired: st.Expired,
		cursors: map[string]*Cursor{}, replays: map[uint64]*Cursor{}, pins: map[string]*Pin{},
	}
	s.letters.counts = st.Letters
	s.limit(o)
	err := l.scan(streamPrefix(keySegment, s.id), func(_, v []byte) error {
		var g segment
		if err := json.Unmarshal(v, &g); err != nil {
			return err
		}
		if g.Next > s.first { // else its reclaim was cut short
			s.segments = append(s.segments, g)
			s.next = max(s.next, g.Next)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	number := st.Segment
	if n := len(s.segments); n > 0 {
		number = s.segments[n-1].Number + 1
	}
	active, err := l.scanActive(s, number)
	if err != nil {
		return nil, err
	}
	s.segments = append(s.segments, active)
	s.next = max(s.next, active.Next)
	s.durable = s.next
	s.first = min(s.first, s.next)
	err = l.scan(streamPrefix(keyCursor, s.id), func(k, v []byte) error {
		c := &Cursor{stream: s, name: string(k[3:])}
		c.key = cursorKey(s.id, c.name)
		if err := json.Unmarshal(v, &c.saved); err != nil {
			return fmt.Errorf("cursor %q: %w", c.name, err)
		}
		c.restore()
		s.cursors[c.name] = c
		return nil
	})
	return s, errors.Join(err, l.loadLetters(s))
}

// scanActive reads the block indexes from segment number on: they belong to
// the segment that was written last.
func (l *Log) scanActive(s *Stream, number uint32) (segment, error) {
	g := segment{Number: number, First: s.next, Next: s.next, At: l.clock.uptimeNow()}
	prefix := streamPrefix(keyIndex, s.id)
	err := l.scanFrom(prefix, segmentPrefix(keyIndex, s.id, number), func(k, v []byte) error {
		n, offset, ok := parseBlockKey(k)
		x, err := parseIndex(v)
		if err != nil || !ok {
			l.note("stream %q: index of block %d: %v", s.name, offset, err)
			return nil
		}
		if offset+x.count <= s.first {
			return nil // its reclaim was cut short; the next one removes it
		}
		if g.Bytes == 0 {
			g.First = offset
		}
		g.Number, g.Next, g.Latest = n, offset+x.count, x.latest
		g.Bytes += x.bytes
		return nil
	})
	return g, err
}

// Stream returns the stream of that name; nil if there is none.
func (l *Log) Stream(name string) *Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams[name]
}

// Streams returns all streams by name.
func (l *Log) Streams() []*Stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*Stream, 0, len(l.streams))
	for _, s := range l.streams {
		all = append(all, s)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	return all
}

// Configure applies new limits and creates streams that do not exist yet. It
// never removes a stream or an event by itself.
func (l *Log) Configure(streams []StreamOptions) error {
	for _, o := range streams {
		l.mu.Lock()
		s := l.streams[o.Name]
		if s == nil {
			saved := map[string]streamState{}
			for name, s := range l.streams {
				saved[name] = streamState{ID: s.id}
			}
			var err error
			s, err = l.openStream(o, streamState{ID: l.freeStreamID(saved), First: 1, Next: 1})
			if err == nil {
				err = l.putNow(nameKey(keyStream, o.Name), s.state())
			}
			if err != nil {
				l.mu.Unlock()
				return fmt.Errorf("create stream %q: %w", o.Name, err)
			}
			l.streams[o.Name] = s
		}
		l.mu.Unlock()
		s.mu.Lock()
		changed := s.given != o
		s.mu.Unlock()
		s.limit(o)
		if !changed {
			continue
		}
		// On the committer's goroutine, for it moves the first offset; not
		// waited for, because new limits may be what makes room on a full disk.
		r := &request{keys: 1, prepare: func(r *request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if value, err := json.Marshal(s.state()); err == nil {
				r.sets = []keyValue{{nameKey(keyStream, s.name), value}}
			}
		}}
		if err := l.submit(context.Background(), r); err != nil {
			return fmt.Errorf("keep the limits of stream %q: %w", s.name, err)
		}
	}
	return nil
}

// Epoch is the part of the identity that says which life of the store an
// event was appended in.
func (l *Log) Epoch() uint64 { return l.epoch }

// Gateway is the first part of every identity.
func (l *Log) Gateway() string { return l.opt.Gateway }

// Now is the wall clock that events are stamped with.
func (l *Log) Now() event.Time { t, _ := l.clock.now(); return t }

// Age is how long ago an event of the log was taken in. A jump of the wall
// clock while the log is open does not change it.
func (l *Log) Age(ev *event.Event) time.Duration { return l.clock.age(ev) }

// Clock is the number of the machine's boot that the log is open in, and the
// time since that boot. Neither jumps.
func (l *Log) Clock() (boot uint32, sinceBoot time.Duration) {
	_, sinceBoot = l.clock.now()
	return l.clock.boot, sinceBoot
}

// Report says what opening found.
func (l *Log) Report() Report { return l.report }

// Failed is closed when the store has failed; Err then says why.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err is nil until the store has failed, then wraps ErrFailed.
func (l *Log) Err() error {
	select {
	case <-l.failed:
		return l.failure
	default:
		return nil
	}
}

// fail stops the log for good: after a write or sync that went wrong, what
// the disk holds is unknown until it has been read again.
func (l *Log) fail(err error) {
	l.failOnce.Do(func() {
		l.failure = fmt.Errorf("%w: %w", ErrFailed, err)
		l.opt.Logger.Error("the store has failed; nothing is acknowledged until it has been opened again", "err", err)
		close(l.failed)
	})
}

func (l *Log) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.report.Notes = append(l.report.Notes, text)
	l.opt.Logger.Warn("repair", "found", text)
}

// Close commits what waits, and closes the store. Appends from then on get
// ErrClosed. It may be called twice.
func (l *Log) Close() error {
	var err error
	l.closeOnce.Do(func() {
		close(l.closing)
		l.queue.close()
		l.committer.Wait()
		if l.Err() == nil {
			err = l.writePositions()
		}
		if e := l.db.Close(); err == nil && l.Err() == nil {
			err = e
		}
		if err == nil && l.Err() == nil {
			_ = os.Remove(filepath.Join(l.opt.Dir, runningFile))
		}
		_ = l.lock.Close()
	})
	if err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}
