//go:build vm

package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// unpackKernel writes the kernel that a bzImage has inside to a file and returns
// its name, or that of the image if it is of another form. The emulator boots
// the kernel as it is, which saves the seconds that it would need to unpack it.
func unpackKernel(image, to string) (string, error) {
	b, err := os.ReadFile(image)
	if err != nil {
		return "", err
	}
	// Documentation/x86/boot.rst: the setup sectors, where the payload begins
	// after them, and its length.
	if len(b) < 0x250 || string(b[0x202:0x206]) != "HdrS" {
		return image, nil
	}
	sectors := int(b[0x1f1])
	if sectors == 0 {
		sectors = 4
	}
	begin := (sectors+1)*512 + int(binary.LittleEndian.Uint32(b[0x248:]))
	length := int(binary.LittleEndian.Uint32(b[0x24c:]))
	if begin+length > len(b) || !bytes.HasPrefix(b[begin:], []byte("\xfd7zXZ")) {
		return image, nil
	}
	xz := exec.Command("xz", "--decompress", "--single-stream", "--stdout")
	xz.Stdin = bytes.NewReader(b[begin : begin+length])
	kernel, err := xz.Output()
	if !bytes.HasPrefix(kernel, []byte(elf.ELFMAG)) { // what follows it is no error
		return "", fmt.Errorf("unpack %s: %w", image, err)
	}
	return to, os.WriteFile(to, kernel, 0o600)
}

// order returns the files of modules in dir and of all that they need, each
// after those that it needs.
func order(dir string, names []string) (files []string, err error) {
	for _, name := range names {
		file := filepath.Join(dir, name+".ko")
		if _, err := os.Stat(file); err != nil { // they are spelled both ways
			file = filepath.Join(dir, strings.ReplaceAll(name, "_", "-")+".ko")
		}
		needs, err := needed(file)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		before, err := order(dir, needs)
		if err != nil {
			return nil, err
		}
		for _, f := range append(before, file) {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	return files, nil
}

// needed returns the modules that a module says it needs.
func needed(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	info := f.Section(".modinfo")
	if info == nil {
		return nil, fmt.Errorf("%s is not a module", file)
	}
	b, err := info.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(b), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
