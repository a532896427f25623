package storage

import (
	"context"

	"holdfast/gateway/event"
)

// batches hands out one batch at a time: what is not committed comes again.
type batches struct {
	*Cursor
	span Span
}

func (b *batches) Next(ctx context.Context, l ReadLimits) ([]event.Event, error) {
	for len(b.span.Events) == 0 {
		span, err := b.Cursor.Next(ctx, l, 0)
		if err != nil {
			return nil, err
		}
		switch n := int(span.To - span.From); span.Skipped {
		case SkipFiltered:
			err = b.Cursor.Commit(ctx, span.From, span.To, Outcome{Filtered: n})
		case SkipDamaged:
			err = b.Cursor.Commit(ctx, span.From, span.To, Outcome{Damaged: n})
		default:
			b.span = span
		}
		if err != nil {
			return nil, err
		}
	}
	return b.span.Events, nil
}

func (b *batches) Commit(ctx context.Context, n int, o Outcome) error {
	from := b.span.From
	if err := b.Cursor.Commit(ctx, from, from+uint64(n), o); err != nil {
		return err
	}
	b.span.From, b.span.Events = from+uint64(n), b.span.Events[n:]
	return nil
}
