package forward

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff bounds the pauses after failed attempts. The n-th pause is drawn at
// random between 0 and Base·2ⁿ⁻¹, but at most Cap ("full jitter"), so that
// many gateways do not return to a recovering backend at the same moment.
type Backoff struct {
	Base time.Duration // zero means 500 ms
	Cap  time.Duration // zero means 60 s
}

func (b Backoff) withDefaults() Backoff {
	if b.Base <= 0 {
		b.Base = 500 * time.Millisecond
	}
	if b.Cap <= 0 {
		b.Cap = time.Minute
	}
	b.Base = min(b.Base, b.Cap)
	return b
}

// Pause returns the pause after so many failures in a row, at least one. What
// is not set has its default.
func (b Backoff) Pause(failures int) time.Duration { return b.withDefaults().pause(failures) }

// pause returns the pause after so many failures in a row. It is never shorter
// than a tenth of Base: a run of lucky draws must not become a hot loop.
func (b Backoff) pause(failures int) time.Duration {
	ceiling := b.Base
	for i := 1; i < failures && ceiling < b.Cap; i++ {
		ceiling *= 2
	}
	ceiling = min(ceiling, b.Cap)
	return max(rand.N(ceiling), b.Base/10)
}

// after returns the pause after err: at least as long as the far side asked
// for, and a little more for the same reason that pauses are random.
func (b Backoff) after(failures int, err error) time.Duration {
	if asked, ok := RetryDelay(err); ok {
		return max(asked, 0) + b.pause(1)
	}
	return b.pause(failures)
}

// graceful returns a context that outlives ctx by grace.
func graceful(ctx context.Context, grace time.Duration) (context.Context, func()) {
	if grace < 0 {
		return ctx, func() {}
	}
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-hard.Done():
		}
	})
	return hard, func() { stop(); cancel() }
}
