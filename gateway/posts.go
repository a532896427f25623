package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"holdfast/gateway/broker"
	"holdfast/gateway/event"
	"holdfast/gateway/ingest"
	"holdfast/storage"
)

// openIngest prepares to take events over HTTP, if that is configured.
func (g *Gateway) openIngest(cfg *Config) (err error) {
	c := cfg.Ingest
	if c.Listen == "" {
		return nil
	}
	g.ingest, err = ingest.New(ingest.Options{
		Emit: newIntake(g.intake, g.log, cfg.Streams).posts, Tokens: c.Tokens,
		MaxBody: c.MaxBody, MaxEvents: c.MaxEvents, MaxConns: c.MaxConns,
		Failed: g.fail, Logger: g.logger,
	})
	if err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	return nil
}

func (g *Gateway) startIngest(cfg *Config) error {
	if g.ingest == nil {
		return nil
	}
	l, err := net.Listen("tcp", cfg.Ingest.Listen)
	if err != nil {
		return fmt.Errorf("ingest.listen: %w; choose another address, or off", err)
	}
	if t := cfg.Ingest.TLS; t != nil {
		if l, err = encrypted(l, *t, g.logger); err != nil {
			return fmt.Errorf("ingest.tls: %w", err)
		}
	}
	return g.ingest.Start(l)
}

func encrypted(l net.Listener, t broker.TLS, log *slog.Logger) (net.Listener, error) {
	over, err := t.Encrypt(l, log)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return over, nil
}

func (g *Gateway) stopIngest() {
	if g.ingest != nil {
		g.ingest.StopIntake()
	}
}

// closeIngest sends the last answers.
func (g *Gateway) closeIngest() error {
	if g.ingest == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return g.ingest.Close(ctx)
}

// posts is ingest.Options.Emit.
func (in *intake) posts(ctx context.Context, events []event.Event, done func(error)) error {
	o := storage.AppendOptions{Hurry: true}
	return posted(in.log.Append(ctx, in.split(events), o, func(err error) { done(posted(err)) }))
}

// posted tells the server which errors mean that there is no room.
func posted(err error) error {
	switch {
	case errors.Is(err, storage.ErrFull):
		return fmt.Errorf("%w: the disk of the gateway is full", ingest.ErrFull)
	case errors.Is(err, storage.ErrStreamFull):
		return fmt.Errorf("%w: %w", ingest.ErrFull, err)
	}
	return err
}
