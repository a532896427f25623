package devices

import (
	"context"
	"fmt"
	"time"
)

// lane is the one goroutine that does all work on a bus. Who waits for a turn,
// or for work that hangs, waits no longer than his own context.
type lane struct {
	name string
	jobs chan job
}

type job struct {
	work func() error
	done chan error
}

func newLane(name string) lane { return lane{name, make(chan job)} }

// do has work done and returns its error; where names what is worked on. If ctx
// ends first, work may still go on: it must not touch what the caller owns.
func (l lane) do(ctx context.Context, where string, work func() error) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	j := job{work, make(chan error, 1)}
	select {
	case l.jobs <- j:
	case <-ctx.Done():
		return fmt.Errorf("bus %s is busy, another device may be holding it: %w", l.name, context.Cause(ctx))
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s does not answer: %w", where, context.Cause(ctx))
	}
}

// idleAfter is how long there must be nothing to do for a lane to be idle.
const idleAfter = 2 * time.Second

// run works until ctx ends, and calls idle whenever it becomes idle.
func (l lane) run(ctx context.Context, idle func()) {
	timer := time.NewTimer(idleAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-l.jobs:
			j.done <- j.work()
			timer.Reset(idleAfter)
		case <-timer.C:
			idle()
		}
	}
}
