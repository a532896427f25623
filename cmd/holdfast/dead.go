package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/gateway/ops"
)

func deadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "Look after dead letters",
		Long: `Look after dead letters: events that a destination refused for good, that a
rule failed on, or whose payload cannot be read. Each is kept with the reason
until it is tried again, purged, or taken by the limits of the stream dead.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(deadListCommand(), deadShowCommand(),
		deadSettleCommand("retry", "Deliver dead letters again",
			`Deliver dead letters again. They move back to pending in the ledger of the
destination that refused them, with the identity that they had, and are sent
beside the events that are new. One that is refused again is a new dead letter.
Letters of rules stay: a rule sees each event once.`,
			(*ops.Client).RetryLetters, "will be delivered again"),
		deadSettleCommand("purge", "Give dead letters up",
			`Give dead letters up. They are still counted as dead, and shown no more.`,
			(*ops.Client).PurgeLetters, "purged"))
	return cmd
}

// letterFlags select dead letters.
type letterFlags struct {
	query        ops.LetterQuery
	since, until string
}

func (l *letterFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&l.query.Stream, "stream", "", "only of events of the stream `NAME`")
	fl.StringVar(&l.query.Destination, "destination", "", "only those that the destination `NAME` refused")
	fl.StringVar(&l.query.Rule, "rule", "", "only those that the rule `NAME` failed on")
	fl.StringVar(&l.query.Reason, "reason", "", "only with this `REASON`: refused, too_large, rule_failed, undecodable")
	fl.StringVar(&l.query.Topic, "topic", "", "only of events whose topic matches `FILTER`")
	fl.StringVar(&l.since, "since", "", "only last tried since `WHEN`: 2h for two hours ago, or 2025-03-01T12:00:00Z")
	fl.StringVar(&l.until, "until", "", "only last tried before `WHEN`")
	fl.IntVarP(&l.query.Limit, "limit", "n", 0, "at most `N`, the oldest first")
}

// selected returns the query that the flags make; ids are the arguments.
func (l *letterFlags) selected(now time.Time) (q ops.LetterQuery, err error) {
	q = l.query
	if q.Topic != "" {
		if err := event.CheckFilter(q.Topic); err != nil {
			return q, usagef("--topic: %w", err)
		}
	}
	if q.Since, err = when(l.since, now); err != nil {
		return q, usagef("--since: %w", err)
	}
	if q.Until, err = when(l.until, now); err != nil {
		return q, usagef("--until: %w", err)
	}
	if q.Limit < 0 {
		return q, usagef("--limit takes a number of letters")
	}
	return q, nil
}

// when reads a time: RFC 3339, or how long ago it was.
func when(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if text == "now" {
		return now, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	ago, err := config.ParseDuration(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time such as 2025-03-01T12:00:00Z nor one that long ago such as 2h", text)
	}
	return now.Add(-ago.Std()), nil
}

func deadListCommand() *cobra.Command {
	var (
		gateway gatewayFlags
		output  outputFlag
		flags   letterFlags
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the dead letters that are open",
		Example: `  holdfast dead list --destination cloud --since 24h
  holdfast dead list --reason undecodable -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := flags.selected(time.Now())
			if err != nil {
				return err
			}
			client, err := gateway.client()
			if err != nil {
				return err
			}
			if output == outputJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetEscapeHTML(false)
				return client.Letters(cmd.Context(), q, func(l ops.Letter) error { return enc.Encode(l) })
			}
			return listLetters(cmd.Context(), client, q, cmd.OutOrStdout())
		},
	}
	gateway.register(cmd)
	output.register(cmd)
	flags.register(cmd)
	return cmd
}

func listLetters(ctx context.Context, client *ops.Client, q ops.LetterQuery, w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	n := 0
	err := client.Letters(ctx, q, func(l ops.Letter) error {
		if n++; n == 1 {
			fmt.Fprintln(t, "ID\tLAST TRIED\tEVENT\tTOPIC\tBY\tREASON\tATTEMPTS\tERROR")
		}
		_, err := fmt.Fprintf(t, "%d\t%s\t%s/%d\t%s\t%s\t%s\t%d\t%s\n", l.ID, l.Last.Local().Format("2006-01-02T15:04:05"),
			l.Stream, l.Offset, readable([]byte(l.Topic)), by(l), l.Reason, l.Attempts, readable([]byte(l.Error)))
		return err
	})
	if err != nil {
		return err
	}
	if n == 0 {
		fmt.Fprintln(w, "no dead letters")
	}
	return t.Flush()
}

// by says who refused the event.
func by(l ops.Letter) string {
	if l.Destination != "" {
		return l.Destination
	}
	return "rule " + l.Rule
}

func deadShowCommand() *cobra.Command {
	var (
		gateway gatewayFlags
		output  outputFlag
	)
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a dead letter and the event in it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := letterID(args[0])
			if err != nil {
				return err
			}
			client, err := gateway.client()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			return client.Letters(cmd.Context(), ops.LetterQuery{ID: id}, func(l ops.Letter) error {
				if output == outputJSON {
					return writeJSON(out, l)
				}
				return showLetter(out, l)
			})
		},
	}
	gateway.register(cmd)
	output.register(cmd)
	return cmd
}

func showLetter(w io.Writer, l ops.Letter) error {
	f, err := ops.Item(l.Event).Fields()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	const stamp = "2006-01-02T15:04:05.000Z07:00"
	row("id", "%d", l.ID)
	row("refused by", "%s", by(l))
	if l.Position != "" {
		row("at", "%s", readable([]byte(l.Position)))
	}
	row("reason", "%s", l.Reason)
	row("error", "%s", readable([]byte(l.Error)))
	row("attempts", "%d, from %s to %s", l.Attempts, l.First.Local().Format(stamp), l.Last.Local().Format(stamp))
	row("event", "%s", f.ID)
	row("topic", "%s", readable([]byte(l.Topic)))
	row("source", "%s", readable([]byte(f.Source)))
	row("key", "%s", readable([]byte(l.Key)))
	row("received", "%s", f.Received.Local().Format(stamp))
	row("payload", "%s", readable(f.Payload()))
	return t.Flush()
}

func letterID(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, usagef("%q is not the ID of a dead letter; holdfast dead list shows them", text)
	}
	return id, nil
}

// deadSettleCommand returns retry or purge.
func deadSettleCommand(name, short, long string, settle func(*ops.Client, context.Context, ops.LetterQuery, bool) (ops.LetterResult, error), done string) *cobra.Command {
	var (
		gateway gatewayFlags
		flags   letterFlags
		all     bool
	)
	cmd := &cobra.Command{
		Use:   name + " [ID...]",
		Short: short,
		Long:  long,
		Example: "  holdfast dead " + name + " 17 18\n" +
			"  holdfast dead " + name + " --destination cloud --reason refused --since 24h\n" +
			"  holdfast dead " + name + " --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := flags.selected(time.Now())
			if err != nil {
				return err
			}
			queries := []ops.LetterQuery{q}
			switch {
			case len(args) > 0 && (q != ops.LetterQuery{} || all):
				return usagef("name letters by ID, or select them, not both")
			case len(args) > 0:
				queries = nil
				for _, text := range args {
					id, err := letterID(text)
					if err != nil {
						return err
					}
					queries = append(queries, ops.LetterQuery{ID: id})
				}
			case q == ops.LetterQuery{} && !all:
				return usagef("name letters by ID, select some, or say --all")
			}
			client, err := gateway.client()
			if err != nil {
				return err
			}
			var sum ops.LetterResult
			for _, q := range queries {
				r, err := settle(client, cmd.Context(), q, all)
				if err != nil {
					return err
				}
				sum.Selected, sum.Settled, sum.Skipped = sum.Selected+r.Selected, sum.Settled+r.Settled, sum.Skipped+r.Skipped
				if r.Why != "" {
					sum.Why = r.Why
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", plural(sum.Settled, "dead letter"), done)
			if sum.Skipped > 0 {
				return &exitError{exitPartial, fmt.Errorf("%s left alone; the last one because %s", plural(sum.Skipped, "dead letter"), sum.Why)}
			}
			return nil
		},
	}
	gateway.register(cmd)
	flags.register(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every dead letter")
	return cmd
}
