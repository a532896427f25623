package storage

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func newNoise() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// damageManifest makes Badger refuse to open the store.
func damageManifest(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, databaseDir, "MANIFEST")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0xff
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
