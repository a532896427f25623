package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"holdfast/storage"
)

// A store that is set aside without need is as good as lost to its owner:
// only a fault in reading it counts.
func TestProbeBlamesTheStoreOnlyForFaults(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		ok, blamed   bool
	}{
		{"it opens", "exit 0", true, false},
		{"bad memory access, by signal", "kill -BUS $$", false, true},
		{"bad memory access, in the Go runtime", "echo 'unexpected fault address'; exit 2", false, true},
		{"another process has it open", "echo locked; exit 1", false, false},
		{"out of memory", "kill -KILL $$", false, false},
		{"stopped by the operator", "kill -TERM $$", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			child := filepath.Join(dir, "holdfast")
			if err := os.WriteFile(child, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			err := probeStore(child, dir)
			if ok, blamed := err == nil, errors.Is(err, storage.ErrUnreadable); ok != tt.ok || blamed != tt.blamed {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := probeStore(filepath.Join(t.TempDir(), "missing"), t.TempDir()); err == nil || errors.Is(err, storage.ErrUnreadable) {
		t.Errorf("without a binary: %v", err)
	}
}
