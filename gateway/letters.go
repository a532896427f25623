package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/ops"
	"holdfast/storage"
)

// Letters calls send with every open dead letter that the query selects, the
// oldest first.
func (g *Gateway) Letters(ctx context.Context, q ops.LetterQuery, send func(ops.Letter) error) error {
	return g.eachLetter(ctx, q, func(d *event.Event) error { return send(g.showLetter(d)) })
}

// RetryLetters moves the dead letters that the query selects back to pending
// at the destinations that refused them.
func (g *Gateway) RetryLetters(ctx context.Context, q ops.LetterQuery) (r ops.LetterResult, err error) {
	return g.settleLetters(ctx, q, (*storage.Stream).Retry, func(l *storage.Letter, why letter) string {
		switch {
		case why.destination == "":
			return fmt.Sprintf("rule %s failed on it; a rule sees each event once: mend the rule, and purge the letter", why.rule)
		case l.Stream == nil || !hasCursor(l.Stream, l.Cursor):
			return fmt.Sprintf("destination %s is not known any more", why.destination)
		}
		return ""
	})
}

// PurgeLetters settles the dead letters that the query selects for good.
func (g *Gateway) PurgeLetters(ctx context.Context, q ops.LetterQuery) (r ops.LetterResult, err error) {
	return g.settleLetters(ctx, q, (*storage.Stream).Purge, func(*storage.Letter, letter) string { return "" })
}

func hasCursor(s *storage.Stream, name string) bool {
	_, ok := s.Cursors()[name]
	return ok
}

// lettersAtOnce is how many letters are read before they are settled.
const lettersAtOnce = 500

func (g *Gateway) settleLetters(ctx context.Context, q ops.LetterQuery,
	settle func(*storage.Stream, context.Context, []storage.Letter) (int, error),
	obstacle func(*storage.Letter, letter) string,
) (r ops.LetterResult, err error) {
	dead := g.log.Stream(streamDead)
	var some []storage.Letter
	flush := func() error {
		n, err := settle(dead, ctx, some)
		r.Settled += n
		r.Skipped += len(some) - n
		if n < len(some) && r.Why == "" && err == nil {
			r.Why = "somebody else has settled it"
		}
		some = some[:0]
		return err
	}
	err = g.eachLetter(ctx, q, func(d *event.Event) error {
		r.Selected++
		_, why := readLetter(d)
		l := storage.Letter{Offset: d.Offset, Cursor: why.destination}
		if d.Cause != nil && why.destination != "" {
			l.Stream = g.log.Stream(d.Cause.Stream)
		}
		if text := obstacle(&l, why); text != "" {
			r.Skipped++
			r.Why = text
			return nil
		}
		if some = append(some, l); len(some) == lettersAtOnce {
			return flush()
		}
		return nil
	})
	return r, errors.Join(err, flush())
}

// eachLetter calls fn with the records of the open letters that q selects,
// among those that were there when it began.
func (g *Gateway) eachLetter(ctx context.Context, q ops.LetterQuery, fn func(*event.Event) error) error {
	if err := checkLetterQuery(q); err != nil {
		return err
	}
	dead := g.log.Stream(streamDead)
	reader := dead.Reader(false)
	next, end, _ := dead.Bounds()
	if q.ID != 0 {
		next, end = max(q.ID, next), min(q.ID+1, end)
	}
	found := 0
	for next < end && ctx.Err() == nil {
		events, err := readOn(reader, &next)
		if err != nil {
			return err
		}
		for i := range events {
			d := &events[i]
			if d.Offset >= end || !dead.Open(d.Offset) || !selects(&q, d) {
				continue
			}
			if err := fn(d); err != nil {
				return err
			}
			if found++; found == q.Limit {
				return nil
			}
		}
	}
	if q.ID != 0 && found == 0 && ctx.Err() == nil {
		return fmt.Errorf("there is no open dead letter %d; holdfast dead list shows those that there are", q.ID)
	}
	return ctx.Err()
}

func checkLetterQuery(q ops.LetterQuery) error {
	if q.Topic != "" {
		if err := event.CheckFilter(q.Topic); err != nil {
			return err
		}
	}
	if q.Reason != "" && !slices.Contains(reasons, q.Reason) {
		return fmt.Errorf("there is no reason %q; there are %s", q.Reason, strings.Join(reasons, ", "))
	}
	return nil
}

func selects(q *ops.LetterQuery, d *event.Event) bool {
	_, l := readLetter(d)
	stream := ""
	if d.Cause != nil {
		stream = d.Cause.Stream
	}
	at := l.last.Std()
	return (q.Stream == "" || q.Stream == stream) &&
		(q.Destination == "" || q.Destination == l.destination) &&
		(q.Rule == "" || q.Rule == l.rule) &&
		(q.Reason == "" || q.Reason == l.reason) &&
		(q.Topic == "" || event.Match(q.Topic, d.Topic)) &&
		(q.Since.IsZero() || !at.Before(q.Since)) &&
		(q.Until.IsZero() || at.Before(q.Until))
}

// showLetter is a dead letter as the operator sees it.
func (g *Gateway) showLetter(d *event.Event) ops.Letter {
	e, l := readLetter(d)
	out := ops.Letter{
		ID: d.Offset, Reason: l.reason, Error: l.err, Destination: l.destination, Rule: l.rule, Position: l.position,
		Attempts: l.attempts, First: l.first.Std(), Last: l.last.Std(),
		Topic: e.Topic, Client: e.Client, Key: e.OrderingKey(), Offset: e.Offset,
	}
	gateway := g.log.Gateway()
	if d.Cause != nil {
		out.Stream, gateway = d.Cause.Stream, d.Cause.Gateway
	}
	out.Event = json.RawMessage(ops.NewItem(gateway, out.Stream, &e))
	return out
}

// retries is what a destination has to try again, as a forwarder sees it.
type retries struct {
	cursor
	retries *storage.Retries
}

func newRetries(c cursor) *retries {
	dead := c.log.Stream(streamDead)
	return &retries{c, c.cursor.Retries(dead, func(d *event.Event) event.Event {
		e, _ := readLetter(d)
		return e
	})}
}

// Next hands out one letter at a time: what lies between two of them is none
// of its business.
func (r *retries) Next(ctx context.Context, _ forward.Limits) (forward.Span, error) {
	e, err := r.retries.Next(ctx)
	if err != nil {
		return forward.Span{}, err
	}
	return forward.Span{
		Batch: forward.Batch{Gateway: r.log.Gateway(), Stream: r.stream.Name(), Events: []event.Event{e}},
		From:  e.Offset, To: e.Offset + 1,
	}, nil
}

func (r *retries) Commit(ctx context.Context, _, _ uint64, o forward.Outcome) error {
	return r.retries.Commit(ctx, r.outcome(o))
}
