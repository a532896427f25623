package rules

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// hash is a digest of texts that tells (a, b) from (ab).
func hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s,", len(p), p)
	}
	return h.Sum64()
}

// print is a digest of everything that is written about the rule.
func (sp *spec) print() uint64 { return hash(sp.section.Fingerprint()) }

// selection is what decides which events the rule sees, and their key and time.
func (sp *spec) selection() []string {
	var patterns []string
	for _, p := range sp.source.patterns {
		patterns = append(patterns, p.text)
	}
	all := []string{sp.source.stream, sp.source.rule, strings.Join(patterns, "\x00"), sp.Key.Text}
	if sp.Time != nil {
		all = append(all, sp.Time.Field.Text, sp.Time.Unit)
	}
	return all
}

// setText is what set says: expressions may name it.
func (sp *spec) setText() string {
	var b strings.Builder
	for _, s := range sp.sets {
		fmt.Fprintf(&b, "%s=%s\x00", s.name, s.source.Text)
	}
	return b.String()
}

// shape is a digest of all that decides what the state of the window means.
// What the rule emits, on which condition, and how long it waits are not part
// of it, so that those can be changed without losing the windows that are open.
func (sp *spec) shape() uint64 {
	all := append(sp.selection(), sp.Where.Text, sp.setText())
	if sp.Window != nil {
		all = append(all, sp.Window.shape())
	}
	for _, c := range sp.columns {
		all = append(all, c.source.Text)
	}
	return hash(all...)
}

// memoryShape is what the memory as a whole depends on; each place in it also
// depends on what is called there.
func (sp *spec) memoryShape() uint64 { return hash(append(sp.selection(), sp.setText())...) }

// holdShape is what decides since when a condition holds.
func (sp *spec) holdShape() uint64 {
	return hash(append(sp.selection(), sp.setText(), sp.Where.Text, sp.For.String())...)
}
