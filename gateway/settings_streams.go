package gateway

import (
	"time"

	"holdfast/gateway/config"
	"holdfast/storage"
)

func (l *loader) streams(sections config.Named) {
	events := StreamConfig{Name: streamEvents, Max: 1 << 30, Keep: 24 * time.Hour}
	if l.total > 0 {
		events.Max = 512 << 20
	}
	l.c.Streams = []StreamConfig{
		events,
		{Name: streamAlerts, Max: 64 << 20, Keep: 7 * 24 * time.Hour},
		{Name: streamDead, Max: 64 << 20, MaxAge: 30 * 24 * time.Hour},
	}
	for _, s := range sections {
		stream := l.stream(s.Name())
		if stream == nil {
			if !validName(s.Name()) {
				l.errs.Add(s.Errorf("", "%q cannot name a stream; %s", s.Name(), nameRule))
			}
			l.c.Streams = append(l.c.Streams, newStream(s.Name()))
			stream = &l.c.Streams[len(l.c.Streams)-1]
		}
		set := streamSettings{
			Max: config.Size(stream.Max), Keep: config.Duration(stream.Keep), MaxAge: config.Duration(stream.MaxAge),
			WhenFull: "drop_oldest",
		}
		l.errs.Add(s.Decode(&set))
		if s.Has("share") && !s.Has("max") {
			set.Max = 0
		}
		l.filters(s, set.Topics)
		if s.Has("topics") && (stream.Name == streamEvents || stream.Name == streamDead) {
			l.errs.Add(s.Errorf("topics", "the stream %s cannot choose topics; events takes all that no other stream claims", stream.Name))
		}
		l.whenFull(s, set)
		*stream = StreamConfig{
			Name: stream.Name, Topics: set.Topics, Max: int64(set.Max), Share: set.Share.Part(), MaxEvents: set.MaxEvents,
			Keep: set.Keep.Std(), MaxAge: set.MaxAge.Std(), WhenFull: policies[set.WhenFull],
		}
	}
}

var policies = map[string]storage.Policy{"drop_oldest": storage.DropOldest, "block": storage.Block, "reject": storage.Reject}

// whenFull says what a choice of when_full or keep means that was hardly meant.
func (l *loader) whenFull(s *config.Section, set streamSettings) {
	dead := s.Name() == streamDead
	if dead && s.Has("keep") {
		l.c.Warnings.Add(s.Errorf("keep", "keep has no effect on %s: dead letters stay until max, max_events or max_age takes them", streamDead))
	}
	if set.WhenFull != "block" && set.WhenFull != "reject" {
		return
	}
	what := map[string]string{"block": "sources wait", "reject": "sources are refused"}[set.WhenFull]
	switch {
	case dead:
		l.errs.Add(s.Errorf("when_full", "dead letters are never refused and wait for nothing; %s can only drop_oldest", streamDead))
	case s.Name() != streamEvents && len(set.Topics) == 0:
		l.c.Warnings.Add(s.Errorf("when_full", "no source writes to %s, and rules are never refused: without topics it drops the oldest events all the same", s.Name()))
	default:
		l.c.Warnings.Add(s.Errorf("when_full", "while %s is full, because a destination is away for long, %s: local rules then see no new events and raise no alerts", s.Name(), what))
	}
}

// newStream has the limits of a stream about which nothing was said.
func newStream(name string) StreamConfig {
	return StreamConfig{Name: name, Max: 64 << 20, Keep: 24 * time.Hour}
}
