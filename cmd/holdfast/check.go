package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/gateway/config"
)

func checkCommand() *cobra.Command {
	var files configFlag
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration and show every mistake in it",
		Long: `Check a configuration, its expressions and the certificates, keys, passwords
and users that it names included, and show every mistake with its place. Nothing
is connected or written.`,
		Example: `  holdfast check --config holdfast.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := files.loadWithFiles()
			var mistakes config.Errors
			switch {
			case errors.As(err, &mistakes):
				fmt.Fprintf(cmd.ErrOrStderr(), "%v\n%s\n", err, countMistakes(mistakes))
				return &exitError{code: exitConfig}
			case err != nil:
				return err
			}
			if len(cfg.Warnings) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%v\n%s\n", cfg.Warnings, plural(len(cfg.Warnings), "warning"))
			}
			rules := 0
			if cfg.Rules != nil {
				rules = cfg.Rules.Len()
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (%s, %s, %s)\n", strings.Join(files.files(), ", "),
				plural(rules, "rule"), plural(len(cfg.Destinations), "destination"), plural(len(cfg.Streams), "stream"))
			return err
		},
	}
	files.register(cmd)
	return cmd
}

func countMistakes(mistakes config.Errors) string {
	files := map[string]bool{}
	for _, m := range mistakes {
		files[m.Pos.File] = true
	}
	return plural(len(mistakes), "mistake") + " in " + plural(len(files), "file")
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
