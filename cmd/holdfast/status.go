package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"holdfast/gateway/ops"
)

func statusCommand() *cobra.Command {
	var (
		gateway  gatewayFlags
		output   outputFlag
		watch    bool
		interval time.Duration
		verify   bool
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the running gateway is doing",
		Long: `Show how the running gateway is doing: what needs attention, its streams, how
far each destination is and what became of its events, and its rules. With
--watch also how many events come and go per second.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval <= 0 {
				return usagef("--interval must be more than 0")
			}
			client, err := gateway.client()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			switch {
			case verify:
				return verifyLedger(cmd.Context(), client, out, cmd.ErrOrStderr(), output)
			case watch:
				return watchStatus(cmd.Context(), client, out, output, interval)
			case output == outputJSON:
				return printStatusJSON(cmd.Context(), client, out)
			}
			st, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			return writeStatus(out, sample{st, time.Now()}, nil, colours(out))
		},
	}
	gateway.register(cmd)
	output.register(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, with rates, until interrupted")
	cmd.Flags().BoolVar(&verify, "verify", false, "recount the ledger from the log, in the background of the gateway, and say what differs")
	cmd.MarkFlagsMutuallyExclusive("watch", "verify")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "time between two looks of --watch")
	return cmd
}

func printStatusJSON(ctx context.Context, client *ops.Client, w io.Writer) error {
	b, err := client.StatusJSON(ctx)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// watchStatus shows the status until ctx ends, also past restarts of the
// gateway.
func watchStatus(ctx context.Context, client *ops.Client, out io.Writer, output outputFlag, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last *sample
	for first := true; ; first = false {
		var frame bytes.Buffer
		var err error
		if output == outputJSON {
			err = printStatusJSON(ctx, client, &frame)
		} else {
			var st ops.Status
			if st, err = client.Status(ctx); err == nil {
				now := sample{st, time.Now()}
				err = writeStatus(&frame, now, last, colours(out))
				last = &now
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ops.ErrUnreachable) && !first && output == outputText:
			last = nil
			fmt.Fprintln(&frame, err)
		case err != nil:
			return err
		}
		if output == outputText && isTerminal(out) {
			fmt.Fprint(out, "\x1b[H\x1b[2J")
		}
		if _, err := frame.WriteTo(out); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colours reports whether w may be written to in colour.
func colours(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}
