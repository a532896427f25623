package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"
)

// Whatever a file holds, loading and decoding end, and every mistake points
// into the file.
func FuzzLoadAndDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.bad.yaml")
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("name: a\nbatch: &b {events: 1}\nraw: *b\nwhere: |\n  x\ntoken: ${file:/dev/null}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var errs Errors
		s, err := LoadBytes("test.yaml", b)
		errs.Add(err)
		if s != nil {
			var got example
			errs.Add(s.Decode(&got))
			_ = Merge(s, s).Decode(&got)
			got.Where.At(len(got.Where.Text)/2, 2, "bad")
			if got.Raw != nil {
				_ = got.Raw.Decode(&example{})
				_ = got.Raw.Decode(&[]string{})
			}
		}
		if s == nil && len(errs) == 0 {
			t.Fatal("neither a section nor a mistake")
		}
		var asErrors Errors
		if err := errs.Err(); err != nil && (!errors.As(err, &asErrors) || err.Error() == "") {
			t.Fatalf("%T %v", err, err)
		}
		for _, e := range errs {
			if utf8.RuneCountInString(e.Source)+1 < e.Pos.Col && e.Source != "" && hideSecrets(e.Source) == e.Source && !hidden(e.Source) {
				t.Errorf("%v is outside of its line %q", e, e.Source)
			}
		}
	})
}

// hidden reports whether the end of a source line was cut to hide a secret.
func hidden(source string) bool {
	r, _ := utf8.DecodeLastRuneInString(source)
	return r == '…'
}
