package devices

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// device is one device with the source that works it.
type device struct {
	source Source
	feed   *Feed
}

// run keeps the source of the device running until ctx ends. A single failure
// is not told to the world: cables pick up noise.
func (d *device) run(ctx context.Context) {
	for failures := 0; ; {
		err := d.attempt(ctx)
		d.feed.flush()
		if ctx.Err() != nil {
			return
		}
		if d.feed.failed(err) {
			failures = 0
		}
		if failures++; failures > 1 {
			d.feed.offline()
		}
		if !sleep(ctx, pause(failures)) {
			return
		}
	}
}

// attempt runs the source once. A driver that panics is a device that failed.
func (d *device) attempt(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the driver panicked at %s: %v", panicSite(), r)
		}
	}()
	if err := d.source.Run(ctx, d.feed); err != nil {
		return err
	}
	return errors.New("the driver stopped without a reason")
}

// panicSite names the line that panicked, to a deferred function that asks.
func panicSite() string {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, "runtime.") || !more {
			return fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
		}
	}
}

// pause is how long to wait after so many failures in a row: a moment at
// first, then 1 s doubling to 30 s, of which up to a half is left to chance so
// that the devices of a bus do not return all at once.
func pause(failures int) time.Duration {
	const first, base, most = 100 * time.Millisecond, time.Second, 30 * time.Second
	if failures <= 1 {
		return first
	}
	d := most
	if shift := failures - 2; shift < 5 {
		d = min(base<<shift, most)
	}
	return d - rand.N(d/2)
}
