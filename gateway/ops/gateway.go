package ops

import "context"

// Gateway is what this package needs of a running gateway. Its methods may be
// called concurrently, at any time between Start and the end of Close.
type Gateway interface {
	// Status returns a snapshot that the caller may keep. It must be quick
	// and must not wait for the store: health checks depend on it.
	Status() Status
	// Reload reads the configuration again and applies it. On an error the
	// configuration that was running goes on; the text of the error is shown
	// to the operator, config.Errors with their carets.
	Reload(ctx context.Context) error
	// Tail calls send for each event that the query selects, in the order of
	// their offsets, then for those that follow, until ctx ends or send
	// returns an error; it returns that error. A reader that is slow must not
	// hold up the gateway: what retention removes before it was sent is
	// skipped.
	Tail(ctx context.Context, q TailQuery, send func(Item) error) error

	Undertaker
	Verifier
	RuleKeeper
	// StartReplay begins to send the events that the query selects once more
	// and returns when the replay is on disk. It goes on after a restart.
	StartReplay(ctx context.Context, q ReplayQuery) (ReplayStatus, error)
	// Replays returns all replays, oldest first; the last ones that are over too.
	Replays() []ReplayStatus
	// CancelReplay ends a replay and forgets it.
	CancelReplay(ctx context.Context, id uint64) error
	// ForgetDestination removes place and ledger of a destination that is not
	// configured any more, in all streams.
	ForgetDestination(ctx context.Context, name string) error
}

// TailQuery selects the events of a Tail: those that come from now on, or
// from an earlier place on if From or Last is set. Not both.
type TailQuery struct {
	Stream string // empty means events
	Filter string // topic filter; empty means every topic
	From   uint64 // begin with this offset, or the first one kept after it
	Last   int    // begin with the newest so many events that Filter selects
}
