package main

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"

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
		Long: `Open the store in DIR and close it again. A gateway that was not stopped in
order runs this in a process of its own before it opens the store, because a
file that was cut short ends the process that reads it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return storage.Probe(args[0]) },
	})
	return cmd
}

// probeStore runs `store probe` by the given holdfast binary. The error wraps
// storage.ErrUnreadable only if reading the store ended the process: one that
// was killed from outside says nothing about the store.
func probeStore(holdfast, dir string) error {
	out, err := exec.Command(holdfast, "store", "probe", dir).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	status, _ := exit.Sys().(syscall.WaitStatus)
	const goFault = 2 // the exit code of the Go runtime after a bad memory access
	if status.ExitStatus() == goFault || status.Signal() == syscall.SIGBUS || status.Signal() == syscall.SIGSEGV {
		return fmt.Errorf("%w: reading it ends the process (%w): %s", storage.ErrUnreadable, exit, firstLine(out))
	}
	return fmt.Errorf("probe the store in %s: %w: %s", dir, err, firstLine(out))
}
