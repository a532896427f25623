package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// badgerOptions fit a small device: Badger's own defaults want several hundred
// megabytes of memory and gigabyte files.
func badgerOptions(dir string, sync bool, log badger.Logger) badger.Options {
	o := badger.DefaultOptions(dir).WithLogger(log)
	o.SyncWrites = sync
	o.MemTableSize = memTable
	o.NumMemtables = 2
	o.ValueLogFileSize = valueLogFile
	o.ValueThreshold = valueThreshold
	// Small tables: a compaction takes twice the size of a table in memory for
	// each that it builds, several at once, and rewrites fewer of its neighbours.
	o.BaseTableSize = mebibyte / 2
	o.TableSizeMultiplier = 1
	o.BaseLevelSize = 8 * mebibyte
	o.NumLevelZeroTables = 3
	o.NumLevelZeroTablesStall = 8
	o.NumCompactors = 2
	o.BlockCacheSize = 0 // values are compressed by us, keys are few
	o.IndexCacheSize = 0
	o.Compression = options.None
	o.DetectConflicts = false // there is one writer
	o.MetricsEnabled = false
	o.CompactL0OnClose = false
	o.NumGoroutines = 1
	return o
}

// badgerLog passes Badger's warnings on, and turns its error lines into the
// failure of the log: Badger only logs a failed sync of the value log.
type badgerLog struct{ l *Log }

// readErrors begin the error lines that Badger writes about a value that
// cannot be read. The reader gets an error too, and passes the block over.
var readErrors = []string{"Unable to read:", "Key:", "Invalid read:"}

func (b badgerLog) Errorf(format string, args ...any) {
	for _, prefix := range readErrors {
		if strings.HasPrefix(format, prefix) {
			return
		}
	}
	b.l.fail(errors.New("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))))
}

func (b badgerLog) Warningf(format string, args ...any) {
	b.l.opt.Logger.Debug("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}
func (b badgerLog) Infof(string, ...any)  {}
func (b badgerLog) Debugf(string, ...any) {}

// getJSON reads the value of key into v and says whether there is one.
func (l *Log) getJSON(key []byte, v any) (found bool, err error) {
	err = l.db.View(func(tx *badger.Txn) error {
		item, err := tx.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		return item.Value(func(b []byte) error { return json.Unmarshal(b, v) })
	})
	return found, err
}

// putNow writes one JSON value in a transaction of its own. For the time
// before the committer runs, and for rare changes of the configuration.
func (l *Log) putNow(key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return l.db.Update(func(tx *badger.Txn) error { return tx.Set(key, b) })
}

// scan calls fn with every key that has the prefix, in order. Keys and values
// are valid during the call only.
func (l *Log) scan(prefix []byte, fn func(k, v []byte) error) error {
	return l.scanFrom(prefix, prefix, fn)
}

func (l *Log) scanFrom(prefix, from []byte, fn func(k, v []byte) error) error {
	return l.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.IteratorOptions{Prefix: prefix, PrefetchValues: false})
		defer it.Close()
		for it.Seek(from); it.Valid(); it.Next() {
			item := it.Item()
			if err := item.Value(func(v []byte) error { return fn(item.Key(), v) }); err != nil {
				return err
			}
		}
		return nil
	})
}
