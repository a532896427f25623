package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	sim "holdfast/firmware-sim"
)

func listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the kinds of sensors, their chips and faults, and the scenarios that are built in",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "KIND\tMETRIC\tUNIT\tMEASURES\tSETTINGS")
			for _, k := range sim.Kinds() {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Name, k.Metric, cmp.Or(k.Unit, "true, false"), k.About, strings.Join(k.Settings, " "))
			}
			fmt.Fprintln(w, "\nKIND\tCHIPS")
			for _, k := range sim.Kinds() {
				if len(k.Chips) > 0 {
					fmt.Fprintf(w, "%s\t%s\n", k.Name, strings.Join(k.Chips, " "))
				}
			}
			fmt.Fprintln(w, "\nFAULT OF A CHIP\tWHAT COMES OF IT")
			for _, f := range sim.Faults() {
				fmt.Fprintf(w, "%s\t%s\n", f.Name, f.About)
			}
			fmt.Fprintln(w, "\nSCENARIO\tBOARDS\tABOUT")
			for _, name := range sim.Examples() {
				s, err := sim.Example(name)
				if err != nil {
					return err
				}
				boards := 0
				for _, b := range s.Boards {
					boards += b.Count
				}
				fmt.Fprintf(w, "%s\t%d\t%s\n", name, boards, s.About)
			}
			return w.Flush()
		},
	}
}
