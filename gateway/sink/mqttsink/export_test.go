package mqttsink

import (
	"os"
	"strings"
	"testing"
)

// Idle reports whether there is no connection.
func (s *Sink) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn == nil || s.conn.link.isDown()
}

// Presets returns the samples of doc.go by their first comment.
func Presets(t *testing.T) map[string]string {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	var name string
	for line := range strings.Lines(string(text)) {
		line, sample := strings.CutPrefix(line, "//\t")
		switch {
		case !sample:
			name = ""
		case name == "":
			name = strings.TrimSpace(strings.TrimPrefix(line, "#"))
		}
		if sample {
			all[name] += line
		}
	}
	if len(all) < 6 {
		t.Fatalf("only %d samples in doc.go", len(all))
	}
	return all
}
