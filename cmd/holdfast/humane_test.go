package main

import (
	"testing"
	"time"
)

func TestFiguresAreForPeople(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{size(0), "0 B"},
		{size(1023), "1023 B"},
		{size(1024), "1 KiB"},
		{size(1536), "1.5 KiB"},
		{size(999 << 10), "999 KiB"},
		{size(1023 << 10), "1 MiB"},
		{size(256 << 20), "256 MiB"},
		{size(1<<63 - 1), "8 EiB"},
		{count(0), "0"},
		{count(999), "999"},
		{count(1000), "1,000"},
		{count(12345678), "12,345,678"},
		{rate(0), "0/s"},
		{rate(0.25), "0.25/s"},
		{rate(9.999), "10/s"},
		{rate(99.96), "100/s"},
		{rate(999.6), "1,000/s"},
		{rate(20000), "20,000/s"},
		{age(-time.Second), "0s"},
		{age(900 * time.Millisecond), "0s"},
		{age(59 * time.Second), "59s"},
		{age(2*time.Minute + 5*time.Second), "2m5s"},
		{age(time.Hour), "1h"},
		{age(time.Hour + 30*time.Second), "1h"},
		{age(75 * time.Hour), "3d3h"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

// What devices send must never reach the terminal as control sequences.
func TestPayloadsCannotSteerTheTerminal(t *testing.T) {
	for _, tt := range []struct{ payload, want string }{
		{`{"value": 21.5}`, `{"value": 21.5}`},
		{"grün, 21 °C", "grün, 21 °C"},
		{"two\nlines\t\r", `two\nlines\t\r`},
		{"", ""},
		{"\x1b[2J", "0x1b5b324a"},
		{"\x00\xff", "0x00ff"},
		{"\u202eevil", "0xe280ae6576696c"},
	} {
		if got := readable([]byte(tt.payload)); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.payload, got, tt.want)
		}
	}
}
