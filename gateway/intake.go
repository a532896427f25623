package gateway

import (
	"context"
	"errors"

	"holdfast/gateway/broker"
	"holdfast/gateway/event"
	"holdfast/storage"
)

// intake puts the events of sources into their streams: the first stream that
// claims the topic, else events.
type intake struct {
	ctx    context.Context // ends when nothing is taken any more
	log    *storage.Log
	events *storage.Stream
	claims []claim
}

type claim struct {
	stream *storage.Stream
	topics []string
}

func newIntake(ctx context.Context, log *storage.Log, streams []StreamConfig) *intake {
	in := &intake{ctx: ctx, log: log, events: log.Stream(streamEvents)}
	for _, s := range streams {
		if len(s.Topics) > 0 {
			in.claims = append(in.claims, claim{log.Stream(s.Name), s.Topics})
		}
	}
	return in
}

func (in *intake) streamOf(topic string) *storage.Stream {
	for i := range in.claims {
		if event.MatchAny(in.claims[i].topics, topic) {
			return in.claims[i].stream
		}
	}
	return in.events
}

// emit is broker.Options.Emit.
func (in *intake) emit(b broker.Batch, done func(error)) error {
	o := storage.AppendOptions{Hurry: b.Hurry, Peers: b.Peers, Client: b.Client, Hold: b.Hold, Gone: b.Gone}
	finish := func(err error) { done(refused(err)) }
	if in.refuses() {
		if some := in.part(&b); some != nil {
			o.Hold = b.Hold
			finish = func(err error) {
				if err == nil {
					done(some)
					return
				}
				done(refused(err)) // then all of it
			}
		}
	}
	return refused(in.log.Append(in.ctx, in.split(b.Events), o, finish))
}

// refuses reports whether one of the streams does so now.
func (in *intake) refuses() bool {
	if in.events.Refuses() {
		return true
	}
	for i := range in.claims {
		if in.claims[i].stream.Refuses() {
			return true
		}
	}
	return false
}

// part leaves in the batch what is for streams that have room, and returns the
// error that tells of the others. It returns nil, and the batch as it was, if
// there is nothing to tell apart.
func (in *intake) part(b *broker.Batch) *broker.PartialError {
	full := map[*storage.Stream]bool{}
	kept, some := broker.Batch{}, &broker.PartialError{}
	counts := map[*storage.Stream]int{}
	held := 0
	for i := range b.Events {
		e := &b.Events[i]
		s := in.streamOf(e.Topic)
		if _, known := full[s]; !known {
			full[s] = s.Refuses()
		}
		holds := e.QoS == 2 && held < len(b.Hold)
		if full[s] {
			some.Refused = append(some.Refused, i)
			counts[s]++
		} else {
			kept.Events = append(kept.Events, *e)
			if holds {
				kept.Hold = append(kept.Hold, b.Hold[held])
			}
		}
		if holds {
			held++
		}
	}
	if len(some.Refused) == 0 || len(kept.Events) == 0 {
		return nil
	}
	for s, n := range counts {
		s.CountRefused(n)
	}
	some.Err = errors.Join(broker.ErrRefused, storage.ErrStreamFull)
	b.Events, b.Hold = kept.Events, kept.Hold
	return some
}

// split groups the events by stream; their order within each is kept.
func (in *intake) split(events []event.Event) []storage.Append {
	if len(in.claims) == 0 {
		return []storage.Append{{Stream: in.events, Events: events}}
	}
	var all []storage.Append
next:
	for i := range events {
		s := in.streamOf(events[i].Topic)
		for k := range all {
			if all[k].Stream == s {
				all[k].Events = append(all[k].Events, events[i])
				continue next
			}
		}
		all = append(all, storage.Append{Stream: s, Events: []event.Event{events[i]}})
	}
	return all
}

// refused tells the broker which errors are no fault of the client.
func refused(err error) error {
	if errors.Is(err, storage.ErrFull) || errors.Is(err, storage.ErrStreamFull) {
		return errors.Join(broker.ErrRefused, err)
	}
	return err
}
