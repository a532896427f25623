package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/gateway/bench"
)

// errBench says that a run ended and that its figures are not clean.
var errBench = errors.New("bench: messages were refused, not acknowledged, lost, repeated or out of order, or connections broke")

// benchCommand returns `holdfast bench`: load for any MQTT broker.
func benchCommand() *cobra.Command {
	l := bench.Load{ClientID: "holdfast-bench-"}
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Load an MQTT broker and measure what it acknowledges",
		Long: `Load an MQTT broker with sensor readings and measure how many it acknowledges
a second and how long that takes. The broker may be any; the load is the same.

With --subscribers it also checks what the broker delivers: each subscriber
must be sent every message of every client, once and in order. Messages that
were lost, came twice or came late are counted, and the exit code is 5.

The latency of single messages: holdfast bench --clients 1 --window 1`,
		Example: `  holdfast bench --addr 127.0.0.1:1883 --clients 10 --window 500
  holdfast bench --subscribers 2 --rate 5000 --duration 1m
  holdfast bench compare --addr 127.0.0.1:1883 --against 127.0.0.1:1884 --pairs 5
  holdfast bench fdatasync /var/lib/holdfast`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLoad(cmd, &l); err != nil {
				return err
			}
			l.Progress = showProgress(cmd.ErrOrStderr(), l)
			r, err := bench.Run(cmd.Context(), l)
			if err != nil {
				return brokerError(l, err)
			}
			if err := printBench(cmd.OutOrStdout(), output, benchFigures(l, r), func(w io.Writer) { writeResult(w, l, r) }); err != nil {
				return err
			}
			if r.Failed() {
				return errBench
			}
			return nil
		},
	}
	f := cmd.PersistentFlags()
	f.StringVar(&l.Addr, "addr", "127.0.0.1:1883", "broker, as HOST:PORT")
	f.IntVar(&l.Clients, "clients", 10, "connections")
	f.IntVar(&l.Window, "window", 500, "messages that each client may have unacknowledged")
	f.IntVar(&l.Size, "size", bench.MinSize, "bytes of payload")
	f.Uint8Var(&l.QoS, "qos", 1, "0 or 1")
	f.IntVar(&l.Rate, "rate", 0, "messages a second over all clients; 0 is as many as are acknowledged")
	f.DurationVar(&l.Duration, "duration", 10*time.Second, "how long to measure")
	f.Int64Var(&l.Messages, "messages", 0, "end after so many messages; 0 is after the duration only")
	f.DurationVar(&l.Warmup, "warmup", time.Second, "how long to load before measuring")
	f.StringVar(&l.Topic, "topic", "plant/%d/temp", "topic; %d stands for the number of the client")
	f.IntVar(&l.Subscribers, "subscribers", 0, "further connections that subscribe to all topics and check what comes")
	f.Uint8Var(&l.SubQoS, "sub-qos", 0, "QoS of the subscribers, 0 or 1 (default that of --qos)")
	f.Uint8Var(&l.Version, "mqtt-version", 4, "4 for MQTT 3.1.1, 5 for MQTT 5")
	f.StringVar(&l.Username, "username", "", "user to log in as")
	f.StringVar(&l.Password, "password", "", "password of that user (default $HOLDFAST_PASSWORD, which other users cannot see)")
	output.register(cmd)
	cmd.AddCommand(benchCompareCommand(&l), benchSyncCommand())
	return cmd
}

// showProgress returns what writes a line a second on a terminal; nil where
// nobody watches.
func showProgress(w io.Writer, l bench.Load) func(bench.Progress) {
	if !isTerminal(w) {
		return nil
	}
	return func(p bench.Progress) {
		what := "acknowledged"
		switch {
		case p.Warming:
			what = "acknowledged, warming up"
		case l.QoS == 0:
			what = "sent"
		}
		line := fmt.Sprintf("%4.0fs of %.0fs  %s/s %s", p.Elapsed.Seconds(), (l.Warmup + l.Duration).Seconds(), count(uint64(max(p.PerSecond, 0))), what)
		if l.Subscribers > 0 {
			line += fmt.Sprintf("  %s delivered", count(uint64(p.Delivered)))
		}
		fmt.Fprintln(w, line)
	}
}

// checkLoad completes and checks the settings of l.
func checkLoad(cmd *cobra.Command, l *bench.Load) error {
	if !cmd.Flags().Changed("sub-qos") {
		l.SubQoS = l.QoS
	}
	if l.Password == "" {
		l.Password = os.Getenv("HOLDFAST_PASSWORD")
	}
	if err := l.Check(); err != nil {
		return &usageError{err}
	}
	return nil
}

func benchCompareCommand(l *bench.Load) *cobra.Command {
	var output outputFlag
	var against string
	var pairs int
	cmd := &cobra.Command{
		Use:   "compare --against HOST:PORT",
		Short: "Load two brokers in turn and print how many times faster the first is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLoad(cmd, l); err != nil {
				return err
			}
			if pairs < 1 {
				return usagef("%d pairs: give at least 1", pairs)
			}
			out := cmd.OutOrStdout()
			type figures struct {
				A     map[string]any `json:"a"`
				B     map[string]any `json:"b"`
				Ratio float64        `json:"ratio"`
			}
			var list []figures
			failed := false
			all, err := bench.Compare(cmd.Context(), *l, against, pairs, func(p bench.Pair) {
				list = append(list, figures{benchFigures(*l, p.A), benchFigures(*l, p.B), p.Ratio})
				failed = failed || p.A.Failed() || p.B.Failed()
				if output != outputJSON {
					fmt.Fprintf(out, "pair %d  %s %8.0f/s  p99 %7s   %s %8.0f/s  p99 %7s   ratio %.2f\n", len(list),
						p.A.Addr, p.A.PerSecond, short(p.A.P99), p.B.Addr, p.B.PerSecond, short(p.B.P99), p.Ratio)
					writeFaults(out, p.A)
					writeFaults(out, p.B)
				}
			})
			if err != nil {
				return brokerError(*l, err)
			}
			median := bench.MedianRatio(all)
			err = printBench(out, output, map[string]any{"pairs": list, "median_ratio": median}, func(w io.Writer) {
				fmt.Fprintf(w, "median ratio %.2f of %d pairs: %s to %s\n", median, len(all), l.Addr, against)
			})
			if err == nil && failed {
				err = errBench
			}
			return err
		},
	}
	cmd.Flags().StringVar(&against, "against", "", "the other broker, as HOST:PORT")
	cmd.Flags().IntVar(&pairs, "pairs", 5, "how many times to load both")
	output.register(cmd)
	cmd.MarkFlagRequired("against")
	return cmd
}

func benchSyncCommand() *cobra.Command {
	var output outputFlag
	var n int
	cmd := &cobra.Command{
		Use:   "fdatasync DIR",
		Short: "Measure a bare write and fdatasync on the disk of DIR",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := bench.Syncs(cmd.Context(), args[0], n)
			if err != nil {
				return err
			}
			p50, p99 := l.Quantile(0.5), l.Quantile(0.99)
			figures := map[string]any{"bytes": bench.SyncWrite, "p50_seconds": p50.Seconds(), "p99_seconds": p99.Seconds(), "max_seconds": l.Max().Seconds()}
			return printBench(cmd.OutOrStdout(), output, figures, func(w io.Writer) {
				fmt.Fprintf(w, "write of %d bytes and fdatasync: median %s  p99 %s  max %s\n", bench.SyncWrite, short(p50), short(p99), short(l.Max()))
			})
		},
	}
	cmd.Flags().IntVar(&n, "count", 2000, "how many writes")
	output.register(cmd)
	return cmd
}

// printBench writes figures as JSON, or what text writes.
func printBench(w io.Writer, output outputFlag, figures any, text func(io.Writer)) error {
	if output != outputJSON {
		text(w)
		return nil
	}
	return writeJSON(w, figures)
}

// brokerError gives an error of reaching the broker its exit code, and says
// why it does not want the user.
func brokerError(l bench.Load, err error) error {
	if errors.Is(err, bench.ErrConnect) {
		return &exitError{exitUnreachable, err}
	}
	var refused *bench.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	r := refusal{code: refused.Code}
	err = fmt.Errorf("connect to %s: %w", refused.Addr, r)
	switch {
	case r.login() && l.Username == "":
		return fmt.Errorf("%w; give --username, and --password or $HOLDFAST_PASSWORD, of a user who may connect", err)
	case r.login():
		return fmt.Errorf("%w; check --username %s, and --password or $HOLDFAST_PASSWORD", err, quote(l.Username))
	}
	return err
}

func benchFigures(l bench.Load, r bench.Result) map[string]any {
	all := map[string]any{
		"addr": r.Addr, "elapsed_seconds": r.Elapsed.Seconds(), "acknowledged": r.Acknowledged, "per_second": r.PerSecond,
		"p50_seconds": r.P50.Seconds(), "p99_seconds": r.P99.Seconds(), "max_seconds": r.Max.Seconds(),
		"sent": r.Sent, "refused": r.Refused, "unacknowledged": r.Unacknowledged, "errors": append([]string{}, r.Errors...),
		"subscribers": l.Subscribers,
	}
	if l.Subscribers == 0 {
		return all // nobody has looked for losses: no figure says that there were none
	}
	maps.Copy(all, map[string]any{
		"delivered": r.Delivered, "delivered_per_second": r.DeliveredPerSecond,
		"deliver_p50_seconds": r.DeliverP50.Seconds(), "deliver_p99_seconds": r.DeliverP99.Seconds(), "deliver_max_seconds": r.DeliverMax.Seconds(),
		"received": r.Received, "lost": r.Lost, "duplicates": r.Duplicates, "out_of_order": r.OutOfOrder, "foreign": r.Foreign,
	})
	return all
}

func writeResult(w io.Writer, l bench.Load, r bench.Result) {
	fmt.Fprintf(w, "%s: %d clients, window %d, QoS %d, %d bytes, %s\n", r.Addr, l.Clients, l.Window, l.QoS, l.Size, r.Elapsed.Round(100*time.Millisecond))
	if l.QoS == 0 {
		fmt.Fprintf(w, "read by the broker  %d  %.0f/s\n", r.Acknowledged, r.PerSecond)
	} else {
		fmt.Fprintf(w, "acknowledged        %d  %.0f/s\n", r.Acknowledged, r.PerSecond)
		fmt.Fprintf(w, "acknowledged after  median %s  p99 %s  max %s\n", short(r.P50), short(r.P99), short(r.Max))
	}
	if l.Subscribers > 0 {
		fmt.Fprintf(w, "delivered           %d  %.0f/s  to %d subscribers at QoS %d\n", r.Delivered, r.DeliveredPerSecond, l.Subscribers, l.SubQoS)
		fmt.Fprintf(w, "delivered after     median %s  p99 %s  max %s\n", short(r.DeliverP50), short(r.DeliverP99), short(r.DeliverMax))
		fmt.Fprintf(w, "whole run           %d sent, %d received: lost %d  duplicates %d  out of order %d\n",
			r.Sent, r.Received, r.Lost, r.Duplicates, r.OutOfOrder)
	}
	writeFaults(w, r)
}

func writeFaults(w io.Writer, r bench.Result) {
	if r.Refused > 0 {
		fmt.Fprintf(w, "%s refused %d messages\n", r.Addr, r.Refused)
	}
	if r.Unacknowledged > 0 {
		fmt.Fprintf(w, "%s left %d messages unacknowledged\n", r.Addr, r.Unacknowledged)
	}
	if r.Lost > 0 {
		fmt.Fprintf(w, "%s lost %d messages that subscribers were to be sent\n", r.Addr, r.Lost)
	}
	if r.Duplicates > 0 {
		fmt.Fprintf(w, "%s sent subscribers %d messages again\n", r.Addr, r.Duplicates)
	}
	if r.OutOfOrder > 0 {
		fmt.Fprintf(w, "%s sent subscribers %d messages after later ones of the same client\n", r.Addr, r.OutOfOrder)
	}
	if r.Foreign > 0 {
		fmt.Fprintf(w, "%s sent subscribers %d messages that are not of this run; they were not counted\n", r.Addr, r.Foreign)
	}
	if len(r.Errors) > 0 {
		fmt.Fprintf(w, "%s: %s\n", r.Addr, strings.Join(r.Errors, "; "))
	}
}

// short formats d with three or four digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(100 * time.Nanosecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
