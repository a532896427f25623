package schema

import (
	"slices"
	"strings"

	"holdfast/gateway/config"
)

// Find returns the keys that a person means by a path: those that are it, else
// all that end in it. Names and the numbers of lists may be left out, or be
// those of a configuration, as in destinations.cloud.url.
func (s *Schema) Find(path string) []Key {
	want, keys := words(path), s.Keys()
	pick := func(is func(spelling []string) bool, of func(k Key) [][]string) (found []Key) {
		for _, k := range keys {
			if slices.ContainsFunc(of(k), is) {
				found = append(found, k)
			}
		}
		return found
	}
	same := func(spelling []string) bool { return slices.Equal(spelling, want) }
	ends := func(spelling []string) bool { return slices.Equal(ending(spelling, len(want)), want) }
	for _, found := range [][]Key{pick(same, Key.spellings), pick(ends, Key.spellings), pick(same, func(k Key) [][]string { return k.named(want) })} {
		if len(found) > 0 {
			return found
		}
	}
	if s.Nearest(path) != "" {
		return nil // rather a misspelt key than the name of something
	}
	return pick(same, func(k Key) [][]string { return k.naming(want) })
}

// Nearest returns the key that was probably meant by a path that is none: one
// whose words are all the same or near. Names are those of the path.
func (s *Schema) Nearest(path string) string {
	want := words(path)
	var known []string
	for _, k := range s.Keys() {
		for _, spelling := range append(k.spellings(), k.named(want)...) {
			if near := ending(spelling, len(want)); near != nil && slices.EqualFunc(want, near, isNear) {
				known = append(known, strings.Join(near, "."))
			}
		}
	}
	return config.Nearest(strings.Join(want, "."), known)
}

func isNear(word, known string) bool {
	return word == known || config.Nearest(word, []string{known}) != ""
}

// spellings are the ways to write the key without names: as destinations.url,
// and with what it is for, as destinations.http.url.
func (k Key) spellings() [][]string {
	plain := words(k.Path)
	if len(k.Cases) == 0 {
		return [][]string{plain}
	}
	kinds := slices.Clone(plain[:1])
	for _, c := range k.Cases {
		_, kind, _ := strings.Cut(c, ": ")
		kinds = append(kinds, kind)
	}
	return [][]string{plain, append(kinds, plain[1:]...)}
}

// named is the key with names where they belong, those of a path of as many
// words. Rules have their name in them, and are named by it all the same.
func (k Key) named(path []string) [][]string {
	pattern := strings.Split(k.Path, ".")
	if pattern[0] == "rules" {
		pattern = slices.Insert(pattern, 1, name)
	}
	return fill(pattern, path)
}

// naming is a key whose value has names, with one of a path of as many words.
func (k Key) naming(path []string) [][]string {
	switch {
	case k.Path == "rules":
		return fill([]string{"rules", name}, path)
	case k.Shape.Form == config.NamedForm:
		return fill(append(strings.Split(k.Path, "."), name), path)
	}
	return nil
}

// name stands in paths for that of a stream, device, destination and so on.
const name = "NAME"

func fill(pattern, path []string) [][]string {
	if len(pattern) != len(path) {
		return nil
	}
	filled := slices.Clone(pattern)
	for i := range filled {
		if filled[i] == name {
			filled[i] = path[i]
		}
	}
	return [][]string{filled}
}

// ending returns the last n words, nil if there are not so many.
func ending(words []string, n int) []string {
	if n > len(words) {
		return nil
	}
	return words[len(words)-n:]
}

// words takes a path apart, without what stands for a name or an item.
func words(path string) []string {
	return slices.DeleteFunc(strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }), func(w string) bool {
		return w == name || w == "*" || strings.Trim(w, "0123456789") == ""
	})
}
