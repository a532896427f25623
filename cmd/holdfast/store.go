package main

import (
	"github.com/spf13/cobra"

	"holdfast/storage"
)

// storeCommand returns the commands for a store that no gateway has open.
func storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "store",
		Short:  "Look after a store that is not in use",
		Hidden: true,
		Args:   noArguments,
		RunE:   func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "probe DIR",
		Short: "Open the store in DIR and close it again",
		Long: `Open the store in DIR and close it again. A gateway runs this in a process of
its own before it opens a store, because a file that was cut short kills the
process that maps it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return storage.Probe(args[0]) },
	})
	return cmd
}
