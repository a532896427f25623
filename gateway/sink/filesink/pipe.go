package filesink

import (
	"context"
	"fmt"
	"io"
)

// pipe writes to standard output. A pager or a stopped terminal can block that
// for as long as it likes, so the writing has a goroutine of its own, and a
// batch that is given up is first finished or failed before the next begins.
type pipe struct {
	out  io.Writer
	busy chan error // has the result of a write that was given up; nil if none
	torn bool       // the last write ended in the middle of a line
}

func newPipe(out io.Writer) *pipe { return &pipe{out: out} }

func (p *pipe) write(ctx context.Context, lines []byte) error {
	if p.busy != nil {
		if err := p.wait(ctx); err != nil {
			return err
		}
		// What was given up has been written after all, and comes again.
	}
	if p.torn {
		lines = append([]byte{'\n'}, lines...)
	} else {
		lines = append([]byte(nil), lines...) // the caller's memory is used again
	}
	p.busy = make(chan error, 1)
	go func(done chan<- error) {
		n, err := p.out.Write(lines)
		p.torn = n > 0 && lines[n-1] != '\n' || n == 0 && p.torn
		done <- err
	}(p.busy)
	return p.wait(ctx)
}

func (p *pipe) wait(ctx context.Context) error {
	select {
	case err := <-p.busy:
		p.busy = nil
		if err != nil {
			return fmt.Errorf("write to standard output: %w; is the program that reads it still running?", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("write to standard output, which nobody reads: %w", ctx.Err())
	}
}

func (p *pipe) Close() error { return nil }
