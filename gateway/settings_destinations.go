package gateway

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/forward"
)

// DestinationConfig is one destination.
type DestinationConfig struct {
	Name    string
	Type    string   // name of the sink's kind
	From    []string // streams
	Topics  []string // filters
	Start   Start    // of a cursor that does not exist yet
	Batch   forward.Limits
	Timeout time.Duration // of one Send
	Retry   forward.Backoff

	// Requests is how many batches may be under way at a time, Parallel
	// whether the sink takes more than one.
	Requests int
	Parallel bool

	// Settings is equal for destinations whose settings are equal, those of
	// the kind, variables and files with secrets included.
	Settings string
	// New makes the sink. Its settings have passed the check of the kind.
	New func() (forward.Sink, error)
	// NewSource makes what brings events back from the far side; it is nil, or
	// returns nil, where nothing does.
	NewSource func() (forward.Source, error)
}

// Start says where a destination begins in a stream that it is new to. The zero
// value is the next event.
type Start struct {
	Oldest bool          // at the oldest event kept
	Since  time.Time     // at the first one received then or later, if not zero
	Ago    time.Duration // likewise, so long before the destination is new, if not zero
}

// parseStart reads a start.
func parseStart(text string) (Start, error) {
	switch text {
	case "now":
		return Start{}, nil
	case "oldest":
		return Start{Oldest: true}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return Start{Since: t.UTC()}, nil
	}
	if ago, err := config.ParseDuration(text); err == nil && ago > 0 {
		return Start{Ago: ago.Std()}, nil
	}
	return Start{}, fmt.Errorf("%q is no start; write now, oldest, a time such as 2026-03-01T08:00:00Z, or how far back, such as 24h", text)
}

// destinationSettings are the keys of every destination; the others belong to
// the kind of its sink.
type destinationSettings struct {
	Type    string          `config:"type,required"`
	From    []string        `config:"from"`
	Topics  []string        `config:"topics"`
	Start   string          `config:"start"`
	Batch   batchSettings   `config:"batch"`
	Timeout config.Duration `config:"timeout,min=100ms,max=1h"`
	Retry   retrySettings   `config:"retry"`

	Requests int `config:"requests,min=1,max=16"`
}

type batchSettings struct {
	Events int             `config:"events,min=1,max=100000"`
	Bytes  config.Size     `config:"bytes,min=1KiB,max=16MiB"`
	Linger config.Duration `config:"linger,max=1h"`
}

type retrySettings struct {
	Min config.Duration `config:"min,min=10ms,max=1h"`
	Max config.Duration `config:"max,min=10ms,max=24h"`
}

func (l *loader) destination(s *config.Section) {
	set := destinationSettings{
		From: []string{streamAlerts}, Topics: []string{"#"}, Start: "now", Timeout: config.Duration(30 * time.Second),
		Batch: batchSettings{Events: 2000, Bytes: 512 << 10, Linger: config.Duration(200 * time.Millisecond)},
		Retry: retrySettings{Min: config.Duration(500 * time.Millisecond), Max: config.Duration(time.Minute)},
	}
	common := config.Keys(&set)
	if s.Kind() == config.Mapping {
		l.errs.Add(s.Only(common...).Decode(&set))
	} else {
		l.errs.Add(s.Decode(&set))
	}
	if !validName(s.Name()) {
		l.errs.Add(s.Errorf("", "%q cannot name a destination; %s", s.Name(), nameRule))
	}
	for i, name := range set.From {
		if l.stream(name) == nil {
			l.errs.Add(s.Errorf(fmt.Sprintf("from.%d", i), "%s", l.unknownStream(name)))
		}
	}
	l.filters(s, set.Topics)
	start, err := parseStart(set.Start)
	if err != nil {
		l.errs.Add(s.Errorf("start", "%v", err))
	}
	if set.Retry.Min > set.Retry.Max {
		l.errs.Add(s.Errorf("retry", "the shortest pause, min: %v, is longer than the longest, max: %v", set.Retry.Min, set.Retry.Max))
	}
	d := DestinationConfig{
		Name: s.Name(), Type: set.Type, From: set.From, Topics: set.Topics, Start: start,
		Batch:   forward.Limits{Events: set.Batch.Events, Bytes: int(set.Batch.Bytes), Linger: set.Batch.Linger.Std()},
		Timeout: set.Timeout.Std(), Retry: forward.Backoff{Base: set.Retry.Min.Std(), Cap: set.Retry.Max.Std()},
		Requests: set.Requests, Settings: s.Fingerprint(),
	}
	l.sink(s, s.Allow(common...), &d)
	l.c.Destinations = append(l.c.Destinations, d)
}

// sink finds the kind of d and lets it check its own settings.
func (l *loader) sink(s, own *config.Section, d *DestinationConfig) {
	var known []string
	for _, kind := range l.parts.Sinks {
		known = append(known, kind.Name)
		if kind.Name != d.Type {
			continue
		}
		d.New = func() (forward.Sink, error) { return kind.New(own) }
		d.Parallel = kind.Requests > 1
		if !d.Parallel && s.Has("requests") {
			l.errs.Add(s.Errorf("requests", "a destination of type %s takes one batch at a time; remove requests", kind.Name))
		}
		if d.Requests == 0 {
			d.Requests = max(kind.Requests, 1)
		}
		if kind.Source != nil {
			d.NewSource = func() (forward.Source, error) { return kind.Source(own) }
		}
		sink, err := d.New()
		if err != nil {
			l.errs.Add(placed(s, err))
		} else if err := sink.Close(); err != nil {
			l.errs.Add(placed(s, err))
		}
		if l.files != noFiles && kind.Files != nil {
			err := kind.Files(own)
			if l.files == allFiles {
				l.errs.Add(err)
			} else {
				l.c.Warnings.Add(err)
			}
		}
		return
	}
	if d.Type == "" {
		return // reported as a missing key
	}
	hint := "; known are " + strings.Join(known, ", ")
	if near := config.Nearest(d.Type, known); near != "" {
		hint = fmt.Sprintf(", did you mean %q?", near)
	}
	l.errs.Add(s.Errorf("type", "%q is not a kind of destination%s", d.Type, hint))
}

// placed gives an error without a position that of the section.
func placed(s *config.Section, err error) error {
	var many config.Errors
	var one *config.Error
	if errors.As(err, &many) || errors.As(err, &one) {
		return err
	}
	return s.Errorf("", "%v", err)
}
