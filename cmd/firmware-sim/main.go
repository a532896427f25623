// Command firmware-sim simulates sensor boards that publish to an MQTT broker.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	sim "holdfast/firmware-sim"
)

// The exit codes are those of holdfast.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitScenario    = 3 // invalid scenario
	exitUnreachable = 4 // broker not reachable
	exitPartial     = 5 // not everything was acknowledged
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// With the first signal the handler goes, so that a second one ends the
	// process at once.
	context.AfterFunc(ctx, stop)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "firmware-sim",
		Short: "Simulate sensor boards that publish to an MQTT broker",
		Long: `Simulate sensor boards that publish to an MQTT broker. The same scenario, seed
and start give the same messages, byte for byte.

Exit codes: 0 ok, 1 failed, 2 usage, 3 invalid scenario, 4 broker not
reachable, 5 not everything was acknowledged.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(runCommand(), listCommand(), printCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	started := false
	for _, cmd := range append(root.Commands(), root) {
		work := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			started = true
			return work(cmd, args)
		}
	}
	cmd, err := root.ExecuteContextC(ctx)
	var mistakes sim.Mistakes
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &mistakes):
		fmt.Fprintln(stderr, err) // begins with file:line
		return exitScenario
	case !started, errors.As(err, &usage):
		fmt.Fprintf(stderr, "firmware-sim: %v\nRun '%s --help' for how to use it.\n", err, cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(stderr, "firmware-sim: %v\n", err)
	switch {
	case errors.Is(err, sim.ErrUnreachable):
		return exitUnreachable
	case errors.Is(err, errPartial):
		return exitPartial
	}
	return exitFailed
}

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }
