package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Memory is what devices remember across restarts: totals of counters, levels
// of outputs. The zero value forgets everything.
type Memory struct{ dir string }

// MemoryIn returns what is remembered in a directory, which is made when there
// is something to remember.
func MemoryIn(dir string) *Memory { return &Memory{dir} }

// Load reads what was last saved under the name into v, which stays as it is if
// there is nothing. What cannot be read is set aside, reported, and not read
// again.
func (m *Memory) Load(name string, v any) error {
	if m.dir == "" {
		return nil
	}
	path := m.path(name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if err = json.Unmarshal(b, v); err != nil {
			err = errors.Join(err, os.Rename(path, path+".damaged"))
		}
	}
	if err != nil {
		return fmt.Errorf("remember %s: %w", name, err)
	}
	return nil
}

// Save writes v under the name. It is on disk at return; a crash on the way
// leaves what was there before.
func (m *Memory) Save(name string, v any) error {
	if m.dir == "" {
		return nil
	}
	b, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(m.dir, 0o750)
	}
	if err == nil {
		err = replace(m.path(name), b)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

// Kept is a number of a source, such as a total, that a [Memory] keeps. It lives as
// long as the source, through all its runs: what could not be saved is not lost
// while the process lives.
type Kept[T int64 | uint64] struct {
	Value T

	memory *Memory
	name   string
	loaded bool
	saved  T
}

// Keep returns a number that is kept under the name.
func Keep[T int64 | uint64](m *Memory, name string) *Kept[T] {
	return &Kept[T]{memory: m, name: name}
}

// Load reads what was last saved, unless that has been read already.
func (k *Kept[T]) Load() error {
	if k.loaded {
		return nil
	}
	if err := k.memory.Load(k.name, &k.Value); err != nil {
		return err
	}
	k.loaded, k.saved = true, k.Value
	return nil
}

// Save puts the number on disk, unless the same is there. If that fails, on a full
// disk for instance, the status of the device has the error, and the next call tries
// again.
func (k *Kept[T]) Save(feed *Feed) {
	if k.Value == k.saved {
		return
	}
	if err := k.memory.Save(k.name, k.Value); err != nil {
		feed.note(err)
		return
	}
	k.saved = k.Value
}

func (m *Memory) path(name string) string { return filepath.Join(m.dir, name+".json") }

func replace(path string, b []byte) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
