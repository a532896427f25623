package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"holdfast/gateway/ops"
)

func destinationCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "destination",
		Short: "List destinations, and forget those that were removed",
		Long: `List destinations, and forget those that were removed.

A destination that is taken out of the configuration, or renamed, keeps its
place in every stream and its ledger: put back, it goes on where it was. Its
events stay as long as the stream has room for them; what retention removes is
counted as dropped.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(destinationListCommand(), destinationForgetCommand())
	return cmd
}

func destinationListCommand() *cobra.Command {
	return listCommand("List all destinations, also removed ones, and how much waits for them",
		func(ctx context.Context, client *ops.Client, w io.Writer, output outputFlag) error {
			st, err := client.Status(ctx)
			if err != nil {
				return err
			}
			if output == outputJSON {
				return writeJSON(w, st.Destinations)
			}
			t := newTable(w, "DESTINATION", "KIND", "STREAM", "STATE", "WAITING", "DELIVERED", "DROPPED", "DEAD")
			for _, d := range st.Destinations {
				kind, state := d.Kind, string(d.State)
				if d.Kind == ops.KindRemoved {
					kind, state = "-", "removed"
				}
				t.row(d.Name, kind, d.Stream, state, count(d.Lag), count(d.Ledger.Delivered), count(d.Ledger.Dropped), count(d.Ledger.Dead))
			}
			return t.Flush()
		})
}

func destinationForgetCommand() *cobra.Command {
	var gateway gatewayFlags
	cmd := &cobra.Command{
		Use:   "forget NAME",
		Short: "Give up the place of a removed destination, and what waits for it",
		Long: `Give up the place of a destination that is not in the configuration any more,
with its ledger and its replays. The events stay in the log for the others. A
destination of that name begins anew, where its start says.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := gateway.client()
			if err != nil {
				return err
			}
			if err := client.ForgetDestination(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "forgot %s\n", args[0])
			return err
		},
	}
	gateway.register(cmd)
	return cmd
}
