package storage

import (
	"bytes"
	"context"
)

// Entry is one key of a table with its value. A nil Value removes the key.
type Entry struct {
	Key   string
	Value []byte
}

// Put changes entries of a table: small keyed state that lives beside the
// streams and is written by the same committer. All entries of one call are
// on disk together or not at all; calls take effect in their order, also
// relative to appends. A call should stay below 64 KiB, for it goes into one
// transaction. It does not wait; done, which may be nil, is called once on the
// committer's goroutine, with nil when the entries are on disk. Hurry says
// that somebody waits for that.
//
// A name holds no zero byte. The entries belong to the log from now on.
func (l *Log) Put(table string, entries []Entry, hurry bool, done func(error)) error {
	r := &request{hurry: hurry, done: done, sets: make([]keyValue, 0, len(entries))}
	for _, e := range entries {
		r.sets = append(r.sets, keyValue{tableKey(table, e.Key), e.Value})
		r.small += len(e.Key) + len(table) + 16
		if len(e.Value) < valueThreshold {
			r.small += len(e.Value)
		}
	}
	return l.submit(context.Background(), r)
}

// Table calls fn with every entry of a table, in the order of the keys. The
// value is valid during the call only.
func (l *Log) Table(table string, fn func(key string, value []byte) error) error {
	prefix := tableKey(table, "")
	return l.scan(prefix, func(k, v []byte) error {
		return fn(string(bytes.TrimPrefix(k, prefix)), v)
	})
}

func tableKey(table, key string) []byte {
	k := make([]byte, 0, 2+len(table)+len(key))
	k = append(k, keyTable)
	k = append(k, table...)
	k = append(k, 0)
	return append(k, key...)
}
