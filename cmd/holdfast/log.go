package main

import (
	"io"
	"log/slog"
	"os"
)

// newLogger returns a logger to w: text for people on a terminal, JSON for
// machines otherwise. Level is debug, info, warn or error, and empty means
// HOLDFAST_LOG, else info.
func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	from := "--log-level"
	if level == "" {
		from, level = "HOLDFAST_LOG", os.Getenv("HOLDFAST_LOG")
	}
	o := slog.HandlerOptions{ReplaceAttr: spelled}
	if level != "" {
		var l slog.Level
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, usagef("%s %s: give debug, info, warn or error", from, quote(level))
		}
		o.Level = l
	}
	if isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, &o)), nil
	}
	return slog.New(slog.NewJSONHandler(w, &o)), nil
}

// spelled writes durations as 1.5s in JSON too, where they would be
// nanoseconds.
func spelled(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
