package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"holdfast/gateway/event"
	"holdfast/gateway/ops"
)

// errEnough ends a tail that has printed as many events as it was asked for.
var errEnough = errors.New("enough")

func tailCommand() *cobra.Command {
	var (
		gateway gatewayFlags
		output  outputFlag
		query   ops.TailQuery
		count   int
	)
	cmd := &cobra.Command{
		Use:   "tail [FILTER]",
		Short: "Print the events of a stream as they come",
		Long: `Print the events of a stream as they come: when the gateway took each in, its
stream and offset, its topic, and its payload as text if it is printable and
in hexadecimal if it is not. FILTER is an MQTT topic filter. Ends when
interrupted.`,
		Example: `  holdfast tail 'plant/#' --last 10
  holdfast tail --stream alerts -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if err := event.CheckFilter(args[0]); err != nil {
					return usagef("%w", err)
				}
				query.Filter = args[0]
			}
			if query.Last < 0 || count < 0 {
				return usagef("--last and --count take a number of events")
			}
			if cmd.Flags().Changed("from") {
				query.From = max(query.From, 1) // the first offset; 0 would be what is new
			}
			client, err := gateway.client()
			if err != nil {
				return err
			}
			n := 0
			err = client.Tail(cmd.Context(), query, func(it ops.Item) error {
				if err := printItem(cmd.OutOrStdout(), output, it); err != nil {
					return err
				}
				if n++; n == count {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		},
	}
	gateway.register(cmd)
	output.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&query.Stream, "stream", ops.DefaultStream, "`NAME` of the stream")
	fl.Uint64Var(&query.From, "from", 0, "begin with the event at this `OFFSET`")
	fl.IntVar(&query.Last, "last", 0, "begin with the newest `N` events")
	fl.IntVarP(&count, "count", "n", 0, "end after so many events")
	cmd.MarkFlagsMutuallyExclusive("from", "last")
	return cmd
}

func printItem(w io.Writer, output outputFlag, it ops.Item) error {
	if output == outputJSON {
		_, err := fmt.Fprintf(w, "%s\n", it)
		return err
	}
	f, err := it.Fields()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s %s %d %s %s\n", f.Received.Local().Format("2006-01-02T15:04:05.000Z07:00"),
		f.Stream, f.Offset, f.Topic, readable(f.Payload()))
	return err
}
