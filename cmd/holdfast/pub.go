package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/spf13/cobra"

	"holdfast/gateway/event"
)

// pubWindow is how many messages of one `pub` may await their acknowledgement.
const pubWindow = 500

// maxStdin is the largest message that `pub` reads from stdin.
const maxStdin = 16 << 20

type pubFlags struct {
	mqtt    mqttFlags
	retain  bool
	stdin   string
	verbose bool
	timeout time.Duration
}

func pubCommand() *cobra.Command {
	var f pubFlags
	cmd := &cobra.Command{
		Use:   "pub TOPIC [PAYLOAD]",
		Short: "Publish a message and wait until it is acknowledged",
		Long: `Publish a message over MQTT and wait until the broker has acknowledged it,
which for Holdfast means that it is on disk. Without PAYLOAD the message is
empty. It speaks MQTT 5, in which a broker says why it refuses a message.`,
		Example: `  holdfast pub plant/1/temperature '{"value": 21.5}'
  sensors | holdfast pub plant/1/temperature --stdin lines`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := event.CheckTopic(args[0]); err != nil {
				return usagef("%w", err)
			}
			if err := f.mqtt.check(); err != nil {
				return err
			}
			switch {
			case f.stdin != "" && len(args) > 1:
				return usagef("give PAYLOAD or --stdin, not both")
			case f.stdin != "" && f.stdin != "lines" && f.stdin != "all":
				return usagef("--stdin %s: give lines or all", quote(f.stdin))
			}
			return f.publish(cmd, args)
		},
	}
	f.mqtt.register(cmd)
	fl := cmd.Flags()
	fl.BoolVarP(&f.retain, "retain", "r", false, "make it the message that later subscribers get first")
	fl.StringVar(&f.stdin, "stdin", "", "read stdin: `lines` for a message per line, all for one message")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "say how long the acknowledgement took")
	fl.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to wait for an acknowledgement")
	return cmd
}

func (f *pubFlags) publish(cmd *cobra.Command, args []string) error {
	ctx, topic := cmd.Context(), args[0]
	var payload []byte
	switch {
	case len(args) > 1:
		payload = []byte(args[1])
	case f.stdin == "all":
		var err error
		if payload, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxStdin+1)); err != nil {
			return fmt.Errorf("read stdin: %w", err)
		}
		if len(payload) > maxStdin {
			return fmt.Errorf("read stdin: more than %s is too much for one message", size(maxStdin))
		}
	}
	s, err := f.mqtt.connect(ctx, "pub", nil)
	if err != nil {
		return err
	}
	defer s.close()
	if f.stdin == "lines" {
		return f.publishLines(ctx, s, topic, cmd.InOrStdin(), cmd.ErrOrStderr())
	}
	begin := time.Now()
	if err := f.acknowledged(ctx, f.send(ctx, s, topic, payload)); err != nil {
		return fmt.Errorf("publish %s: %w", quote(topic), err)
	}
	if f.verbose {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s in %s\n", f.word(), short(time.Since(begin)))
	}
	return nil
}

// publishLines sends every line, several at a time and in order, and counts
// those that were not acknowledged.
func (f *pubFlags) publishLines(ctx context.Context, s *session, topic string, in io.Reader, stderr io.Writer) error {
	var (
		sent    = 0
		failed  = 0
		first   error
		begin   = time.Now()
		pending = make(chan func(context.Context) error, pubWindow)
		settled = make(chan struct{})
	)
	go func() {
		defer close(settled)
		for acknowledged := range pending {
			if err := f.acknowledged(ctx, acknowledged); err != nil {
				failed++
				if first == nil {
					first = err
				}
			}
		}
	}()
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxStdin)
	for ctx.Err() == nil && s.open() && lines.Scan() {
		sent++
		pending <- f.send(ctx, s, topic, bytes.Clone(lines.Bytes()))
	}
	close(pending)
	<-settled
	if f.verbose {
		fmt.Fprintf(stderr, "%d of %d %s in %s\n", sent-failed, sent, f.word(), short(time.Since(begin)))
	}
	err := lines.Err()
	switch {
	case err != nil:
		err = fmt.Errorf("read stdin: %w", err)
	case failed > 0:
		err = fmt.Errorf("publish %s: %d of %s not acknowledged; the first: %w", quote(topic), failed, plural(sent, "message"), first)
	case ctx.Err() != nil:
		err = fmt.Errorf("interrupted after %s", plural(sent, "message"))
	case !s.open():
		err = s.why
	}
	if err != nil && sent > failed {
		return &exitError{exitPartial, err}
	}
	return err
}

func (f *pubFlags) send(ctx context.Context, s *session, topic string, payload []byte) (acknowledged func(context.Context) error) {
	limit, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	return s.publish(limit, &paho.Publish{Topic: topic, QoS: f.mqtt.qos, Retain: f.retain, Payload: payload})
}

// acknowledged waits for the acknowledgement of a message.
func (f *pubFlags) acknowledged(ctx context.Context, wait func(context.Context) error) error {
	limit, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	err := wait(limit)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("not acknowledged within %s", f.timeout)
	}
	return err
}

func (f *pubFlags) word() string {
	if f.mqtt.qos == 0 {
		return "sent"
	}
	return "acknowledged"
}
