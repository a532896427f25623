package filesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast/gateway/config"
	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
)

func newSink(yaml string) (forward.Sink, error) {
	section, err := config.LoadBytes("test.yaml", []byte(yaml))
	if err != nil {
		return nil, err
	}
	return Kind.New(section)
}

func open(t *testing.T, format string, args ...any) forward.Sink {
	t.Helper()
	s, err := newSink(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func batch(first uint64, n int) forward.Batch {
	return forward.Batch{Gateway: "gw-1", Stream: "events", Events: sinktest.Events(first, n)}
}

func send(t *testing.T, s forward.Sink, first uint64, n int) {
	t.Helper()
	if err := s.Send(t.Context(), batch(first, n)); err != nil {
		t.Fatal(err)
	}
}

// received reads all files of a journal, oldest first, and fails on half lines.
func received(t *testing.T, path string) []sinktest.Item {
	t.Helper()
	var items []sinktest.Item
	for n := 50; n >= 0; n-- {
		text, err := os.ReadFile((&journal{path: path}).numbered(n))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		more, err := sinktest.ParseLines(text)
		if err != nil {
			t.Fatalf("file %d: %v", n, err)
		}
		items = append(items, more...)
	}
	return items
}

func offsets(items []sinktest.Item) (all []uint64) {
	for _, i := range items {
		all = append(all, i.Offset)
	}
	return all
}

func span(first, last uint64) (all []uint64) {
	for o := first; o <= last; o++ {
		all = append(all, o)
	}
	return all
}

func checkOffsets(t *testing.T, path string, want []uint64) {
	t.Helper()
	if got := offsets(received(t, path)); !slices.Equal(got, want) {
		t.Errorf("the file has the events %v, want %v", got, want)
	}
}

// badDisk is a file whose disk fails on order.
type badDisk struct {
	file
	writeErr, syncErr, truncateErr error
	takes                          int // bytes of the next write that still fit
}

func (b *badDisk) Write(p []byte) (int, error) {
	if b.writeErr == nil {
		return b.file.Write(p)
	}
	n, _ := b.file.Write(p[:min(b.takes, len(p))])
	return n, b.writeErr
}

func (b *badDisk) Sync() error {
	if b.syncErr != nil {
		return b.syncErr
	}
	return b.file.Sync()
}

func (b *badDisk) Truncate(size int64) error {
	if b.truncateErr != nil {
		return b.truncateErr
	}
	return b.file.Truncate(size)
}

func TestFileSink(t *testing.T) {
	for _, settings := range []string{"", "rotate: {size: 2KiB, keep: 40}", "sync: false"} {
		t.Run(settings, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Target {
				path := filepath.Join(t.TempDir(), "made", "on", "demand", "events.ndjson")
				s := open(t, "path: %s\n%s", path, settings)
				j := s.(*Sink).to.(*journal)
				return sinktest.Target{
					Sink:     s,
					Received: func() []sinktest.Item { return received(t, path) },
					Fail: func(on bool) {
						j.open = openFile
						if on {
							j.open = func(path string) (file, error) {
								f, err := openFile(path)
								return &badDisk{file: f, writeErr: syscall.ENOSPC, takes: 77}, err
							}
						}
						_ = j.Close()
					},
				}
			})
		})
	}
}

func TestStandardOutput(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Target {
		out := &terminal{}
		s := open(t, `path: "-"`)
		s.(*Sink).to = newPipe(out)
		return sinktest.Target{Sink: s, Hang: out.stop, Fail: out.fail, Received: func() []sinktest.Item {
			items, err := sinktest.ParseLines(out.text())
			if err != nil {
				t.Fatal(err)
			}
			return items
		}}
	})
}

// terminal is a reader of standard output that can be stopped and broken.
type terminal struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	broken  bool
	stopped chan struct{}
	writing chan struct{} // if not nil, is told of a write that is held up
}

func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	stopped := t.stopped
	t.mu.Unlock()
	if stopped != nil {
		if t.writing != nil {
			t.writing <- struct{}{}
		}
		<-stopped
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken {
		return 0, syscall.EPIPE
	}
	return t.buf.Write(p)
}

func (t *terminal) text() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf.Bytes())
}

func (t *terminal) fail(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken = on
}

func (t *terminal) stop(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped != nil {
		close(t.stopped)
		t.stopped = nil
	}
	if on {
		t.stopped = make(chan struct{})
	}
}

func TestAStoppedTerminalDelaysButDoesNotMixLines(t *testing.T) {
	out := &terminal{writing: make(chan struct{}, 1)}
	s := &Sink{to: newPipe(out)}
	send(t, s, 1, 2)
	out.stop(true)
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		given := make(chan error, 1)
		go func() { given <- s.Send(ctx, batch(3, 2)) }()
		if i == 0 {
			<-out.writing // the others wait for that
		}
		cancel()
		if err := <-given; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	out.stop(false)
	send(t, s, 3, 2)
	items, err := sinktest.ParseLines(out.text())
	if err != nil {
		t.Fatal(err)
	}
	// The attempt that was given up came through after all: at least once.
	if got, want := offsets(items), []uint64{1, 2, 3, 4, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

type halfWriter struct {
	bytes.Buffer
	half bool
}

func (w *halfWriter) Write(p []byte) (int, error) {
	if w.half {
		n, _ := w.Buffer.Write(p[:len(p)/2])
		return n, io.ErrShortWrite
	}
	return w.Buffer.Write(p)
}

func TestAHalfLineOnStandardOutputIsEndedBeforeTheNext(t *testing.T) {
	out := &halfWriter{half: true}
	s := &Sink{to: newPipe(out)}
	if err := s.Send(t.Context(), batch(1, 1)); err == nil {
		t.Fatal("a half written batch was accepted")
	}
	out.half = false
	send(t, s, 1, 1)
	_, rest, _ := bytes.Cut(out.Bytes(), []byte{'\n'})
	if items, err := sinktest.ParseLines(rest); err != nil || len(items) != 1 {
		t.Errorf("after the half line: %d items, %v", len(items), err)
	}
}

func TestTheSampleIsAccepted(t *testing.T) {
	if _, err := newSink(Kind.Sample); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/var/lib/holdfast/events.ndjson"); err == nil {
		t.Error("New has made the file")
	}
}

func TestMistakesInTheSettingsAreShownAtTheirPlace(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"sync: true", "path"},
		{"path: x\nrotate: {size: -1}", "2:16"},
		{"path: x\nrotate: {keep: 0}", "at least 1"},
		{"path: x\nrotate: {max: 5}", "max"},
		{"path: \"-\"\nsync: true\nrotate: {keep: 2}", "no effect on standard output"},
	} {
		if _, err := newSink(c.yaml); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %q", c.yaml, err, c.want)
		}
	}
}

func TestARelativePathIsRelativeToTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	section, err := config.LoadBytes(filepath.Join(dir, "holdfast.yaml"), []byte("path: out/events.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Kind.New(section)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send(t, s, 1, 1)
	checkOffsets(t, filepath.Join(dir, "out", "events.ndjson"), span(1, 1))
}

func TestARestartAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	for i := range uint64(3) {
		s := open(t, "path: %s", path)
		send(t, s, i*10+1, 10)
		_ = s.Close()
	}
	checkOffsets(t, path, span(1, 30))
}

func TestAHalfLineLeftByACrashIsCutOff(t *testing.T) {
	line := (&forward.Encoder{}).AppendBatch(nil, forward.NDJSON, &forward.Batch{Gateway: "gw-1", Stream: "events", Events: sinktest.Events(9, 1)})
	big := sinktest.Events(9, 1)
	big[0].Payload = bytes.Repeat([]byte{0xff}, 200_000)
	huge := (&forward.Encoder{}).AppendBatch(nil, forward.NDJSON, &forward.Batch{Gateway: "gw-1", Stream: "events", Events: big})
	for name, torn := range map[string][]byte{
		"nothing": nil, "one byte": line[:1], "a few bytes": line[:5], "half": line[:len(line)/2],
		"all but the line break": line[:len(line)-1], "zeros": make([]byte, 4096), "far behind": huge[:len(huge)-1],
	} {
		for _, before := range []uint64{0, 3} {
			t.Run(fmt.Sprint(name, " after ", before), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "events.ndjson")
				if before > 0 {
					s := open(t, "path: %s", path)
					send(t, s, 1, int(before))
					_ = s.Close()
				}
				f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(torn); err != nil {
					t.Fatal(err)
				}
				_ = f.Close()
				send(t, open(t, "path: %s", path), before+1, 3)
				checkOffsets(t, path, span(1, before+3))
			})
		}
	}
}

func TestAForeignFileIsNotDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shadow")
	const content = "first line\nroot:x:0:0 without a line break"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	err := open(t, "path: %s", path).Send(t.Context(), batch(1, 1))
	if err == nil || !strings.Contains(err.Error(), "was not written by holdfast") || forward.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != content {
		t.Errorf("the file is now %q", got)
	}
	err = open(t, "path: %s", "/dev/null").Send(t.Context(), batch(1, 1))
	if err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a device: %v", err)
	}
}

func TestTwoDestinationsDoNotShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	one, two := open(t, "path: %s", path), open(t, "path: %s", path)
	send(t, one, 1, 2)
	if err := two.Send(t.Context(), batch(3, 1)); err == nil || !strings.Contains(err.Error(), "in use by another destination") {
		t.Errorf("got %v", err)
	}
	_ = one.Close()
	send(t, two, 3, 1)
	checkOffsets(t, path, span(1, 3))
}

func TestAFullDiskIsTemporaryAndLeavesNoHalfLine(t *testing.T) {
	for _, c := range []struct {
		name string
		disk badDisk
		want string
	}{
		{"the write does not fit", badDisk{writeErr: syscall.ENOSPC, takes: 100}, "free space on its disk"},
		{"nor can it be taken back", badDisk{writeErr: syscall.ENOSPC, takes: 100, truncateErr: syscall.EIO}, "could not be removed yet"},
		{"the sync fails", badDisk{syncErr: syscall.EIO}, "input/output error"},
		{"all fails", badDisk{syncErr: syscall.EIO, truncateErr: syscall.EIO}, "input/output error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.ndjson")
			s := open(t, "path: %s", path)
			send(t, s, 1, 3)
			j := s.(*Sink).to.(*journal)
			disk := c.disk
			disk.file = j.f
			j.f = &disk
			err := s.Send(t.Context(), batch(4, 3))
			if err == nil || !strings.Contains(err.Error(), c.want) || forward.IsPermanent(err) || forward.IsTooLarge(err) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if c.disk.truncateErr == nil {
				checkOffsets(t, path, span(1, 3))
			}
			send(t, s, 4, 3)
			got := offsets(received(t, path))
			if c.name == "all fails" { // whole lines may come twice
				got = slices.Compact(slices.Sorted(slices.Values(got)))
			}
			if !slices.Equal(got, span(1, 6)) {
				t.Errorf("the file has %v, want 1 to 6", got)
			}
		})
	}
}

func TestFilesAreRotatedAndTheOldestRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.ndjson")
	s := open(t, "path: %s\nrotate: {size: 4KiB, keep: 3}", path)
	for i := range uint64(40) {
		send(t, s, i*5+1, 5)
	}
	_ = s.Close()
	got := offsets(received(t, path))
	if !slices.Equal(got, span(got[0], 200)) || got[0] == 1 {
		t.Errorf("the files have %v, want an unbroken run to 200 without its beginning", got)
	}
	names, _ := filepath.Glob(path + "*")
	if len(names) != 4 {
		t.Errorf("files %v, want the current one and 3", names)
	}
	for _, name := range names {
		if info, _ := os.Stat(name); info.Size() > 4<<10 || info.Size() == 0 {
			t.Errorf("%s has %d bytes", name, info.Size())
		}
	}

	s = open(t, "path: %s\nrotate: {size: 4KiB, keep: 1}", path) // lowered
	for i := range uint64(5) {
		send(t, s, 201+i*5, 5)
	}
	if names, _ := filepath.Glob(path + "*"); len(names) != 2 {
		t.Errorf("after keep was lowered to 1: files %v", names)
	}
}

func TestAMovedOrRemovedFileIsMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.ndjson")
	s := open(t, "path: %s", path)
	send(t, s, 1, 2)
	if err := os.Rename(path, path+".1"); err != nil { // as logrotate does
		t.Fatal(err)
	}
	send(t, s, 3, 2)
	checkOffsets(t, path, span(1, 4))
	if err := os.Truncate(path, 0); err != nil { // as its copytruncate does
		t.Fatal(err)
	}
	send(t, s, 5, 2)
	checkOffsets(t, path, []uint64{1, 2, 5, 6})
}
