package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// checkpoint is the state of a processor behind some offset of its stream. It
// is a file beside the store, not part of it: the state is a function of the
// log, and the file only saves the time to work it out again.
//
//	0   "HFCP", version 1
//	5   CRC-32C of all that follows, little endian
//	9   offset of the next event to be evaluated, 8 bytes
//	17  sequence of the last logged input that the state holds, 8 bytes
//	25  the engine's snapshot
//
// Two generations are kept, so that a damaged one costs a longer re-run and
// nothing else.
type checkpoint struct {
	Next  uint64
	Input uint64
	State []byte
}

const checkpointHead = "HFCP\x01"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checkpointPaths(dir, stream string) (current, previous string) {
	return filepath.Join(dir, stream+".checkpoint"), filepath.Join(dir, stream+".previous")
}

// write makes c the current checkpoint of the stream's processor; it is on
// disk at return.
func (c *checkpoint) write(dir, stream string) error {
	current, previous := checkpointPaths(dir, stream)
	b := append([]byte(checkpointHead), 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, c.Next)
	b = binary.LittleEndian.AppendUint64(b, c.Input)
	b = append(b, c.State...)
	binary.LittleEndian.PutUint32(b[5:], crc32.Checksum(b[9:], castagnoli))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("write checkpoint of %q: %w", stream, err)
	}
	tmp := current + ".new"
	err := writeFile(tmp, b)
	if err == nil {
		err = os.Rename(current, previous)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Rename(tmp, current)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write checkpoint of %q: %w", stream, err)
	}
	return nil
}

// writeFile writes a file whose content is on disk at return, but perhaps not
// its name.
func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeSynced writes a file that is there as a whole or not at all; it is on
// disk at return.
func writeSynced(path string, b []byte) error {
	tmp := path + ".new"
	if err := writeFile(tmp, b); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// readCheckpoints returns what can be read of the two generations, the newer
// one first, and what is wrong with the others.
func readCheckpoints(dir, stream string) (all []checkpoint, problems error) {
	current, previous := checkpointPaths(dir, stream)
	for _, path := range []string{current, previous} {
		c, err := readCheckpoint(path)
		switch {
		case err == nil:
			all = append(all, c)
		case !errors.Is(err, fs.ErrNotExist):
			problems = errors.Join(problems, err)
		}
	}
	return all, problems
}

func readCheckpoint(path string) (checkpoint, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return checkpoint{}, err
	}
	if len(b) < 25 || string(b[:5]) != checkpointHead {
		return checkpoint{}, fmt.Errorf("%s is no checkpoint of version 1", path)
	}
	if crc32.Checksum(b[9:], castagnoli) != binary.LittleEndian.Uint32(b[5:]) {
		return checkpoint{}, fmt.Errorf("%s is damaged: its checksum does not fit", path)
	}
	return checkpoint{
		Next:  binary.LittleEndian.Uint64(b[9:]),
		Input: binary.LittleEndian.Uint64(b[17:]),
		State: b[25:],
	}, nil
}
