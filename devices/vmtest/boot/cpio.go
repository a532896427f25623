//go:build vm

package main

import (
	"bytes"
	"fmt"
	"os"
)

// cpio is an archive in the form that the kernel takes for its first root: see
// Documentation/driver-api/early-userspace/buffer-format.rst. The zero value is
// empty.
type cpio struct {
	b   bytes.Buffer
	n   int
	err error
}

// Kinds of entries, with their permissions.
const (
	folderMode  = 0o040755
	fileMode    = 0o100755
	consoleMode = 0o020600
)

func (c *cpio) entry(name string, mode, major, minor int, content []byte) {
	c.n++
	fmt.Fprintf(&c.b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.n, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0, name)
	c.pad()
	c.b.Write(content)
	c.pad()
}

// pad fills up to a multiple of four bytes.
func (c *cpio) pad() { c.b.Write(make([]byte, -c.b.Len()&3)) }

func (c *cpio) folder(name string)              { c.entry(name, folderMode, 0, 0, nil) }
func (c *cpio) add(name string, content []byte) { c.entry(name, fileMode, 0, 0, content) }

// console adds the device that the first process has as standard output.
func (c *cpio) console(name string) { c.entry(name, consoleMode, 5, 1, nil) }

// copy adds a file of the host.
func (c *cpio) copy(name, file string) {
	content, err := os.ReadFile(file)
	if err != nil && c.err == nil {
		c.err = err
	}
	c.add(name, content)
}

// write writes the archive to a file.
func (c *cpio) write(file string) error {
	if c.err != nil {
		return c.err
	}
	c.entry("TRAILER!!!", 0, 0, 0, nil)
	return os.WriteFile(file, c.b.Bytes(), 0o600)
}
