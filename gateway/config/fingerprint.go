package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// Fingerprint is the same for two sections that say the same: the same keys
// and values, with variables and secret files as they are now, wherever they
// stand and however they are written. A reload compares by it.
func (s *Section) Fingerprint() string {
	h := sha256.New()
	new(decoder).fingerprint(s.node, h)
	return hex.EncodeToString(h.Sum(nil))
}

func (d *decoder) fingerprint(n *node, h hash.Hash) {
	text, _ := d.expand(n, true)
	fmt.Fprintf(h, "%d %q %d %d\n", n.kind, text, len(n.items), len(n.entries))
	for _, item := range n.items {
		d.fingerprint(item, h)
	}
	for _, e := range n.entries {
		fmt.Fprintf(h, "%q:", e.key.value)
		d.fingerprint(e.value, h)
	}
}
