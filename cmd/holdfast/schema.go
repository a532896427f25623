package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/configs"
	"holdfast/gateway"
	"holdfast/gateway/schema"
)

func schemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema [config|rules|tests]",
		Short: "Print the JSON Schema of configurations, or explain a key",
		Long: `Print the JSON Schema (draft 2020-12) of a configuration, of a file with rules,
or of one with tests of rules (*_test.yaml). Editors that know JSON Schema then
complete keys and mark mistakes.`,
		Example: `  holdfast schema > holdfast.schema.json
  holdfast schema rules > rules.schema.json
  holdfast schema tests > tests.schema.json
  holdfast schema show rules.window.grace`,
		ValidArgs: []string{"config", "rules", "tests"},
		Args:      cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "config"
			if len(args) > 0 {
				what = args[0]
			}
			text, err := schemaOf(what)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "show KEY",
		Short: "Show what a key means, its default and an example",
		Long: `Show what a key of the configuration means, its default and an example. A key
is named with those around it, as in mqtt.max_packet; its last words are enough
where they are not ambiguous, and it may hold names of your own, as in
destinations.cloud.url. Keys of tests of rules begin with tests, as in
tests.given.advance. Without a key, all keys of the configuration are listed.`,
		Example: `  holdfast schema show shutdown_timeout
  holdfast schema show streams.max
  holdfast schema show destinations.http.url
  holdfast schema show destinations.cloud.url`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := ownSchema()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				for _, k := range s.Keys() {
					fmt.Fprintln(cmd.OutOrStdout(), k.Title())
				}
				return nil
			}
			found := s.Find(args[0])
			if len(found) == 0 {
				tests, err := testsSchema()
				if err != nil {
					return err
				}
				found = tests.Find(args[0])
			}
			if len(found) == 0 {
				hint := "; holdfast schema show lists all keys"
				if near := s.Nearest(args[0]); near != "" {
					hint = "; did you mean " + quote(near) + "?"
				}
				return usagef("there is no key %q%s", args[0], hint)
			}
			var all []string
			for _, k := range found {
				all = append(all, k.String())
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), strings.Join(all, "\n"))
			return err
		},
	})
	return cmd
}

// schemaOf returns a JSON Schema by its name.
func schemaOf(what string) ([]byte, error) {
	switch what {
	case "config", "rules":
		s, err := ownSchema()
		if err != nil {
			return nil, err
		}
		if what == "rules" {
			return s.RulesJSON()
		}
		return s.JSON()
	case "tests":
		s, err := testsSchema()
		if err != nil {
			return nil, err
		}
		return s.TestsJSON()
	}
	return nil, usagef("there is no schema %q; give config, rules or tests, or show KEY", what)
}

// ownSchema is the schema of what this binary can be configured with.
func ownSchema() (*schema.Schema, error) {
	return schema.New(parts(), reference())
}

// testsSchema is the schema of files with tests of rules.
func testsSchema() (*schema.Schema, error) {
	return schema.Tests(gateway.Document{Name: "reference_test.yaml", Text: configs.Tests})
}

func reference() gateway.Document {
	return gateway.Document{Name: "reference.yaml", Text: configs.Reference}
}
