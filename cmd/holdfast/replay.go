package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/gateway/ops"
)

// defaultRate is slow enough to go unnoticed beside live delivery.
const defaultRate = 1000

func replayCommand() *cobra.Command {
	var (
		gateway  gatewayFlags
		output   outputFlag
		query    ops.ReplayQuery
		from, to string
	)
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Send a part of a stream once more to a destination",
		Long: `Send a part of a stream once more to a destination, in the background and
beside live delivery, which it does not hold up. The events carry their old
identities, and "replay": true. A replay goes on after a restart; what it sends
is counted apart from the ledger.

--from and --to take how long ago (2h), a time (2026-03-01T08:00:00Z), an
offset (18234), or now. The events are those that the gateway received, and
still has, between them; of these, those that the destination's own topics
select as well.`,
		Example: `  holdfast replay --from 2h --topic 'plant/#' --to-destination cloud
  holdfast replay --stream alerts --from 2026-03-01T08:00:00Z --to 2026-03-01T09:00:00Z --to-destination cloud --rate 50
  holdfast replay list`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			var err error
			if query.From, query.FromOffset, err = parsePlace(from, now); err != nil {
				return usagef("--from: %w", err)
			}
			if query.To, query.ToOffset, err = parsePlace(to, now); err != nil {
				return usagef("--to: %w", err)
			}
			for _, f := range query.Topics {
				if err := event.CheckFilter(f); err != nil {
					return usagef("--topic: %w", err)
				}
			}
			switch {
			case query.Rate < 0:
				return usagef("--rate takes a number of events a second, or 0 for no limit")
			case query.Destination == "":
				return usagef("--to-destination is missing: where are the events to go?")
			case from == "" && len(query.Topics) == 0:
				return usagef("--from is missing: 0 sends all that the stream still has")
			}
			client, err := gateway.client()
			if err != nil {
				return err
			}
			st, err := client.StartReplay(cmd.Context(), query)
			if err != nil {
				return err
			}
			if output == outputJSON {
				return printReplays(cmd.OutOrStdout(), output, []ops.ReplayStatus{st})
			}
			if st.First == st.End { // a short one may be over already
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "replay %d: the stream %s has no such events\n", st.ID, st.Stream)
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "replay %d: offsets %d-%d of %s to %s; see holdfast replay list\n",
				st.ID, st.First, st.End-1, st.Stream, st.Destination)
			return err
		},
	}
	gateway.register(cmd)
	output.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&query.Stream, "stream", ops.DefaultStream, "`NAME` of the stream")
	fl.StringVar(&from, "from", "", "begin here: `PLACE` in the stream")
	fl.StringVar(&to, "to", "now", "end before this `PLACE`")
	fl.StringArrayVar(&query.Topics, "topic", nil, "only topics of this `FILTER`; may be repeated")
	fl.StringVar(&query.Destination, "to-destination", "", "`NAME` of the destination")
	fl.IntVar(&query.Rate, "rate", defaultRate, "at most so many events a second; 0 is no limit")
	cmd.AddCommand(replayListCommand(), replayCancelCommand())
	return cmd
}

// parsePlace reads a place in a stream: a time, or an offset. Neither is set
// where there is no bound.
func parsePlace(text string, now time.Time) (at time.Time, offset uint64, err error) {
	if text == "" {
		return at, 0, nil
	}
	if text == "now" {
		return now, 0, nil
	}
	if offset, err = strconv.ParseUint(text, 10, 64); err == nil {
		return at, offset, nil
	}
	if at, err = time.Parse(time.RFC3339, text); err == nil {
		return at, 0, nil
	}
	if ago, err := config.ParseDuration(text); err == nil {
		return now.Add(-ago.Std()), 0, nil
	}
	return at, 0, fmt.Errorf("%q is no place in a stream; write how long ago such as 2h, a time such as 2026-03-01T08:00:00Z, an offset, or now", text)
}

func replayListCommand() *cobra.Command {
	return listCommand("List replays: those under way, and the last ones that are over",
		func(ctx context.Context, client *ops.Client, w io.Writer, output outputFlag) error {
			all, err := client.Replays(ctx)
			if err != nil {
				return err
			}
			return printReplays(w, output, all)
		})
}

func printReplays(w io.Writer, output outputFlag, all []ops.ReplayStatus) error {
	if output == outputJSON {
		return writeJSON(w, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no replays")
		return err
	}
	t := newTable(w, "REPLAY", "STATE", "STREAM", "DESTINATION", "TOPICS", "RATE", "SENT", "FILTERED", "REFUSED", "MISSED", "DAMAGED", "PENDING")
	for _, r := range all {
		topics, rate := "#", "-"
		if len(r.Topics) > 0 {
			topics = strings.Join(r.Topics, " ")
		}
		if r.Rate > 0 {
			rate = fmt.Sprintf("%d/s", r.Rate)
		}
		t.row(strconv.FormatUint(r.ID, 10), string(r.State), r.Stream, r.Destination, topics, rate,
			count(r.Sent), count(r.Filtered), count(r.Refused), count(r.Missed), count(r.Damaged), count(r.Pending))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range all {
		if r.LastError != "" {
			fmt.Fprintf(w, "  ! replay %d: %s\n", r.ID, readable([]byte(r.LastError)))
		}
	}
	return nil
}

func replayCancelCommand() *cobra.Command {
	var gateway gatewayFlags
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "End a replay, or take one that is over off the list",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return usagef("%q is not the number of a replay; holdfast replay list shows them", args[0])
			}
			client, err := gateway.client()
			if err != nil {
				return err
			}
			return cancelReplay(cmd.Context(), cmd.OutOrStdout(), client, id)
		},
	}
	gateway.register(cmd)
	return cmd
}

func cancelReplay(ctx context.Context, w io.Writer, client *ops.Client, id uint64) error {
	if err := client.CancelReplay(ctx, id); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "replay %d is cancelled\n", id)
	return err
}
