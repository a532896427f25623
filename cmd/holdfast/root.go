package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// execute runs the command line and returns the exit code.
func execute(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// With the first signal the handler goes, so that a second one ends the
	// process at once.
	context.AfterFunc(ctx, stop)

	root := rootCommand()
	started := watchStart(root)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !*started {
		if !cmd.HasSubCommands() && cmd.ValidateArgs(cmd.Flags().Args()) != nil {
			err = fmt.Errorf("these arguments do not fit; the command is %s", cmd.UseLine())
		}
		err = &usageError{err}
	}
	return report(root.ErrOrStderr(), cmd.CommandPath(), err)
}

// rootCommand returns `holdfast` with all its commands.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "IoT edge event gateway",
		Long: `Holdfast takes in sensor events over MQTT, has them on disk before it
acknowledges them, runs rules on them, and forwards the results to backends
when connectivity allows.

Exit codes: 0 ok, 1 failed, 2 usage, 3 invalid configuration, 4 gateway not
reachable, 5 finished with some failures.`,
		Args:          noArguments,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(commands()...)
	return root
}

// noArguments refuses what is left on the command line of a command that only
// has further commands; the error suggests the nearest of them.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	text := "unknown command " + quote(args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + quote(near[0]) + "?"
	}
	return usagef("%s", text)
}

// watchStart returns a flag that is set as soon as a command begins its work:
// an error before that is a mistake in the command line.
func watchStart(root *cobra.Command) *bool {
	started := new(bool)
	var wrap func(*cobra.Command)
	wrap = func(cmd *cobra.Command) {
		if run := cmd.RunE; run != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				*started = true
				return run(cmd, args)
			}
		}
		for _, sub := range cmd.Commands() {
			wrap(sub)
		}
	}
	wrap(root)
	return started
}
