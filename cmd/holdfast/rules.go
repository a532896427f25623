package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"holdfast/gateway/ops"
)

func rulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Look after the rules of the running gateway",
		Long: `Look after the rules of the running gateway. A rule that is disabled sees no
events and keeps what it remembers; it stays disabled over restarts until it is
enabled again. The gateway itself disables a rule that costs more than its
budget.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(rulesListCommand(), rulesSetCommand(true), rulesSetCommand(false), rulesStateCommand())
	return cmd
}

func rulesListCommand() *cobra.Command {
	return listCommand("List the rules and what they have done",
		func(ctx context.Context, client *ops.Client, w io.Writer, output outputFlag) error {
			st, err := client.Status(ctx)
			if err != nil {
				return err
			}
			if output == outputJSON {
				return writeLine(w, st.Rules)
			}
			t := newTable(w, "RULE", "STATE", "STREAM", "MATCHED", "PASSED", "FAILED", "LATE", "EMITTED")
			for _, r := range st.Rules {
				state := "enabled"
				if r.Disabled {
					state = "disabled"
				}
				t.row(r.Name, state, r.Stream, count(r.Matched), count(r.Passed), count(r.Failed), count(r.Late), count(r.Emitted))
			}
			return t.Flush()
		})
}

func rulesSetCommand(enable bool) *cobra.Command {
	var gateway gatewayFlags
	use, short, done := "disable RULE", "Let a rule see no more events", "disabled"
	if enable {
		use, short, done = "enable RULE", "Let a rule see events again", "enabled"
	}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := gateway.client()
			if err != nil {
				return err
			}
			if err := client.SetRule(cmd.Context(), args[0], enable); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", args[0], done)
			return err
		},
	}
	gateway.register(cmd)
	return cmd
}

func rulesStateCommand() *cobra.Command {
	var gateway gatewayFlags
	cmd := &cobra.Command{
		Use:   "state RULE [KEY]",
		Short: "Show what a rule remembers, as JSON",
		Long: `Show what a rule remembers, as JSON: of one key, or of the 100 keys seen last,
what its functions keep; the windows that are open, with their results so far,
100 at most; and the last values of other topics. If the rule is disabled it says
why.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := gateway.client()
			if err != nil {
				return err
			}
			key := ""
			if len(args) > 1 {
				key = args[1]
			}
			b, err := client.RuleState(cmd.Context(), args[0], key)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	gateway.register(cmd)
	return cmd
}
