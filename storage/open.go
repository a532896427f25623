package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	badger "github.com/dgraph-io/badger/v4"
)

const (
	databaseDir   = "log"            // Badger's files, inside the store
	positionsFile = "positions.json" // copy of offsets and cursors, for a repair

	runningFile = "running" // there while a process has the store open

	// A store that had to be set aside may have been ahead of the copy of its
	// positions by what is appended between two copies.
	repairGap = 1 << 26
)

// openStore opens Badger, and sets a store aside that does not open.
func (l *Log) openStore() error {
	dir := l.space.dir
	if err := removeEmptyFiles(dir); err != nil {
		return fmt.Errorf("open the store in %s: %w", l.opt.Dir, err)
	}
	readHeads(dir)
	if err := l.probe(); err != nil {
		return l.setAside(dir, err)
	}
	db, err := l.tryOpen(dir)
	if err == nil {
		l.db = db
		return nil
	}
	if strings.Contains(err.Error(), "Cannot acquire directory lock") {
		return inUse(l.opt.Dir) // by something that does not know our lock
	}
	return l.setAside(dir, err)
}

// ErrUnreadable is wrapped by the error of Options.Probe when opening the
// store ended the process that tried it.
var ErrUnreadable = errors.New("the store cannot be opened")

// probe opens the store in another process if it was not closed in order: a
// truncated file under a memory map ends the process that reads it, and no
// program can catch that. The marker is there from now until Close.
func (l *Log) probe() error {
	marker := filepath.Join(l.opt.Dir, runningFile)
	_, err := os.Stat(marker)
	if err == nil && l.opt.Probe != nil {
		if err := l.opt.Probe(l.opt.Dir); errors.Is(err, ErrUnreadable) {
			return err
		}
	}
	f, err := os.OpenFile(marker, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil // the disk is full or read-only; opening will say so
	}
	_ = f.Close()
	return nil
}

// Probe opens and closes the store in dir, and returns what Badger says. The
// process may end by a signal.
func Probe(dir string) error {
	database := filepath.Join(dir, databaseDir)
	if err := removeEmptyFiles(database); err != nil {
		return err
	}
	db, err := badger.Open(badgerOptions(database, true, &openLog{}))
	if err != nil {
		return err
	}
	return db.Close()
}

func (l *Log) tryOpen(dir string) (*badger.DB, error) {
	probe := &openLog{}
	db, err := badger.Open(badgerOptions(dir, !l.opt.noSync && !unsafeNoSync(), probe))
	if err != nil {
		return nil, err
	}
	probe.next.Store(&badgerLog{l})
	return db, nil
}

// setAside keeps a store that does not open for whoever can read it, and
// begins a new one behind the offsets that it may have used.
func (l *Log) setAside(dir string, cause error) error {
	aside := filepath.Join(l.opt.Dir, "damaged-"+time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Rename(dir, aside); err != nil {
		return fmt.Errorf("set the damaged store aside: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("create the store: %w", err)
	}
	db, err := l.tryOpen(dir)
	if err != nil {
		return fmt.Errorf("open a new store beside the damaged one in %s: %w", aside, err)
	}
	l.db = db
	l.report.SetAside = aside
	l.note("the store did not open (%v); it was set aside in %s and a new one begun", cause, aside)
	if _, err := writeIdentity(l.opt.Dir); err != nil {
		return err
	}
	l.report.NewEpoch = "the store was damaged"
	return l.restorePositions()
}

// readHeads brings the first page of every value log file into the page cache,
// and nothing more. Badger looks at it through a memory map when it opens the
// file, and the kernel would read far ahead there: for many files on a small
// device, more than there is memory.
func readHeads(dir string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*.vlog"))
	page := make([]byte, 4096)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue // opening the store will say so
		}
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)
		_, _ = f.ReadAt(page, 0)
		_ = f.Close()
	}
}

// removeEmptyFiles removes log files of no bytes: a power cut between the
// creation and the first write of a file leaves them, and Badger refuses to
// open over one.
func removeEmptyFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".mem") && !strings.HasSuffix(e.Name(), ".vlog") {
			continue
		}
		if info, err := e.Info(); err == nil && info.Size() == 0 {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// positions is the copy of what Badger's tree alone knows.
type positions struct {
	Streams map[string]streamState            `json:"streams"`
	Cursors map[string]map[string]cursorState `json:"cursors"` // by stream and name
	Clock   clockState                        `json:"clock"`
}

func (l *Log) positions() positions {
	p := positions{Streams: map[string]streamState{}, Cursors: map[string]map[string]cursorState{}, Clock: l.clock.state()}
	for _, s := range l.Streams() {
		s.mu.Lock()
		p.Streams[s.name] = s.state()
		p.Cursors[s.name] = map[string]cursorState{}
		for name, c := range s.cursors {
			p.Cursors[s.name][name] = c.saved
		}
		s.mu.Unlock()
	}
	return p
}

// positionsEvery bounds how often the copy is written: it costs two syncs.
const positionsEvery = 30 * time.Second

func (l *Log) writePositionsNowAndThen() {
	commits := l.stats.commits.Load()
	if commits == l.positionsCommit || time.Since(l.positionsAt) < positionsEvery {
		return
	}
	l.positionsCommit, l.positionsAt = commits, time.Now()
	if err := l.writePositions(); err != nil {
		l.opt.Logger.Warn("the copy of offsets and cursors cannot be written", "err", err)
	}
}

func (l *Log) writePositions() error {
	return writeFileDurably(filepath.Join(l.opt.Dir, positionsFile), func(string) ([]byte, error) {
		return json.Marshal(l.positions())
	})
}

// restorePositions begins an empty store where the damaged one may have been.
func (l *Log) restorePositions() error {
	b, err := os.ReadFile(filepath.Join(l.opt.Dir, positionsFile))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var p positions
	if err := json.Unmarshal(b, &p); err != nil {
		l.note("the copy of offsets and cursors cannot be read: %v", err)
		return nil
	}
	for name, st := range p.Streams {
		next := st.Next
		if l := &st.Letters; *l != (LetterCounts{}) {
			l.Lost = next - 1 - st.Gap - l.Retried - l.Purged
		}
		st.Gap += repairGap
		st.Next += repairGap
		st.First, st.Segment = st.Next, st.Segment+1
		if err := l.putNow(nameKey(keyStream, name), st); err != nil {
			return err
		}
		for cursor, c := range p.Cursors[name] {
			c.Ledger.Damaged += next - min(c.Next, next) + c.Retrying
			c.Next, c.Retrying = st.Next, 0
			if err := l.putNow(cursorKey(st.ID, cursor), c); err != nil {
				return err
			}
		}
	}
	return l.putNow(nameKey(keyMeta, "boot"), p.Clock)
}
