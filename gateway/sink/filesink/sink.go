// Package filesink appends events to a file as newline-delimited JSON, rotates
// it by size, and never leaves half a line behind. It is the destination that
// needs no network: for a first look, for devices that another program reads,
// and for the terminal.
package filesink

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"holdfast/gateway/config"
	"holdfast/gateway/forward"
)

// Kind is the file sink.
var Kind = forward.Kind{
	Name: "file",
	Doc:  "Appends events as NDJSON to a file that is rotated by size, or to standard output.",
	Sample: `path: /var/lib/holdfast/events.ndjson   # or "-" for standard output
rotate:
  size: 64MiB   # 0 never rotates
  keep: 8       # older files: events.ndjson.1 is the newest of them
sync: true      # on disk before an event counts as delivered
`,
	New: New,
}

type settings struct {
	Path   config.Path `config:"path,required"`
	Rotate struct {
		Size config.Size `config:"size,min=0"`
		Keep int         `config:"keep,min=1,max=1000"`
	} `config:"rotate"`
	Sync bool `config:"sync"`
}

// New reads the settings of one destination. It does not touch the disk; the
// file and its directory are made by the first Send.
func New(s *config.Section) (forward.Sink, error) {
	set := settings{Sync: true}
	set.Rotate.Size, set.Rotate.Keep = 64<<20, 8
	var errs config.Errors
	errs.Add(s.Decode(&set))
	if set.Path == "-" {
		for _, key := range []string{"rotate", "sync"} {
			if s.Has(key) {
				errs.Add(s.Errorf(key, "%s has no effect on standard output; remove it, or give path a file name", key))
			}
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	if set.Path == "-" {
		return &Sink{to: newPipe(os.Stdout)}, nil
	}
	return &Sink{to: &journal{
		path: string(set.Path), limit: int64(set.Rotate.Size), keep: set.Rotate.Keep, sync: set.Sync, open: openFile,
	}}, nil
}

// Sink writes batches to a file or to standard output.
type Sink struct {
	mu      sync.Mutex
	to      writer
	encoder forward.Encoder
	buf     []byte
	closed  bool
}

// writer takes whole lines: all of them, or none and an error.
type writer interface {
	write(ctx context.Context, lines []byte) error
	io.Closer
}

// Send appends the batch. When it returns nil the lines are in the file, and
// with sync on disk. Every error is temporary: the file is as it was before.
func (s *Sink) Send(ctx context.Context, b forward.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("file sink: send after close")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if cap(s.buf) > 4<<20 { // left behind by a rare large batch
		s.buf = nil
	}
	s.buf = s.encoder.AppendBatch(s.buf[:0], forward.NDJSON, &b)
	return s.to.write(ctx, s.buf)
}

// Close closes the file; standard output stays open.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.to.Close()
}
