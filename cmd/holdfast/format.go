package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// outputFlag is -o: the form of what goes to stdout.
type outputFlag string

const (
	outputText outputFlag = "text"
	outputJSON outputFlag = "json"
)

func (o *outputFlag) register(cmd *cobra.Command) {
	*o = outputText
	cmd.Flags().VarP(o, "output", "o", "`FORMAT` of the output: text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *outputFlag) String() string { return string(*o) }

// Type is what the help shows.
func (o *outputFlag) Type() string { return "format" }

// Set accepts the known formats.
func (o *outputFlag) Set(s string) error {
	switch f := outputFlag(s); f {
	case outputText, outputJSON:
		*o = f
		return nil
	}
	return fmt.Errorf("give text or json")
}
