package filesink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// journal is a rotated file of whole lines. Its own state may be thrown away
// at any time: open finds the end of the last whole line again.
type journal struct {
	path  string
	limit int64 // size at which the file is rotated, 0 for never
	keep  int   // rotated files
	sync  bool
	open  func(path string) (file, error)

	f    file
	size int64 // the end of the last line that was written whole
}

// file is what a journal needs of an *os.File, and where tests let a disk fail.
type file interface {
	io.ReaderAt
	io.Writer
	io.Closer
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
}

// openFile opens or makes the file for appending and locks it against another
// gateway or destination, whose half-written line must not be taken for a torn
// one.
func openFile(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		_ = f.Close()
		return nil, fmt.Errorf("%s is in use by another destination or gateway; give each its own path", path)
	}
	return f, nil
}

func (j *journal) write(_ context.Context, lines []byte) error {
	if err := j.ready(); err != nil {
		return err
	}
	if j.limit > 0 && j.size > 0 && j.size+int64(len(lines)) > j.limit {
		if err := j.rotate(); err != nil {
			return err
		}
		if err := j.ready(); err != nil {
			return err
		}
	}
	_, err := j.f.Write(lines)
	if err == nil && j.sync {
		err = j.f.Sync()
	}
	if err != nil {
		return j.undo(err)
	}
	j.size += int64(len(lines))
	return nil
}

// undo takes back what a failed write has left, and forgets the file: after a
// failed sync nobody knows what of it is on disk, so the lines are written anew
// behind what is read from the file then.
func (j *journal) undo(cause error) error {
	if err := j.f.Truncate(j.size); err != nil {
		cause = fmt.Errorf("%w (and the half line could not be removed yet: %w)", cause, err)
	}
	_ = j.Close()
	if errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT) {
		return fmt.Errorf("append to %s: %w; free space on its disk, or lower rotate.size and rotate.keep", j.path, cause)
	}
	return fmt.Errorf("append to %s: %w", j.path, cause)
}

// ready opens the file, unless it is open and still the one at path: other
// programs may have moved or removed it.
func (j *journal) ready() error {
	if j.f != nil {
		if now, err := os.Stat(j.path); err == nil {
			if ours, err := j.f.Stat(); err == nil && os.SameFile(now, ours) && ours.Size() == j.size {
				return nil
			}
		}
		_ = j.Close()
	}
	dir := filepath.Dir(j.path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make the directory of %s: %w", j.path, err)
	}
	f, err := j.open(j.path)
	if err != nil {
		return fmt.Errorf("open the file of events: %w", err)
	}
	size, err := repair(f, j.path)
	if err == nil && size == 0 && j.sync {
		err = syncDir(dir) // the file may be new
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	j.f, j.size = f, size
	return nil
}

// repair cuts off a last line that a crash or a full disk has left half
// written, and returns the size of the file then. Its event is not lost: it
// had not counted as delivered.
func repair(f file, path string) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("open %s: it is not a regular file; set another path", path)
	}
	size := info.Size()
	end, err := lastLineEnd(f, size)
	if err != nil {
		return 0, fmt.Errorf("read the end of %s: %w", path, err)
	}
	if end == size {
		return size, nil
	}
	torn := make([]byte, min(size-end, int64(len(lineStart))))
	if _, err := f.ReadAt(torn, end); err != nil {
		return 0, fmt.Errorf("read the end of %s: %w", path, err)
	}
	if !bytes.HasPrefix([]byte(lineStart), torn) && len(bytes.Trim(torn, "\x00")) > 0 {
		return 0, fmt.Errorf("open %s: its last line was not written by holdfast; move the file away, or set another path", path)
	}
	if err := f.Truncate(end); err != nil {
		return 0, fmt.Errorf("cut the half line off %s: %w", path, err)
	}
	return end, nil
}

// lineStart begins every item. A crash may also leave zero bytes, where the
// file had grown but its content had not reached the disk.
const lineStart = `{"id":"`

// lastLineEnd returns the offset behind the last line break, 0 if there is none.
func lastLineEnd(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for at := size; at > 0; {
		n := min(at, int64(len(buf)))
		at -= n
		if _, err := f.ReadAt(buf[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return at + int64(i) + 1, nil
		}
	}
	return 0, nil
}

// rotate moves path to path.1, that to path.2 and so on, and removes what is
// beyond keep. A crash in between leaves a gap in the numbers, no loss.
func (j *journal) rotate() error {
	if !j.sync { // the content of a rotated file no longer changes
		_ = j.f.Sync()
	}
	if err := j.Close(); err != nil {
		return fmt.Errorf("rotate %s: %w", j.path, err)
	}
	for n := j.keep; ; n++ { // more than one if keep was lowered
		if err := os.Remove(j.numbered(n)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return fmt.Errorf("rotate %s: %w", j.path, err)
		}
	}
	for n := j.keep - 1; n >= 0; n-- {
		err := os.Rename(j.numbered(n), j.numbered(n+1))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate %s: %w", j.path, err)
		}
	}
	if err := syncDir(filepath.Dir(j.path)); err != nil {
		return fmt.Errorf("rotate %s: %w", j.path, err)
	}
	return nil
}

func (j *journal) numbered(n int) string {
	if n == 0 {
		return j.path
	}
	return j.path + "." + strconv.Itoa(n)
}

func (j *journal) Close() error {
	if j.f == nil {
		return nil
	}
	f := j.f
	j.f = nil
	return f.Close()
}

// syncDir puts names on disk that were made or changed in a directory.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
