package main

import (
	"bufio"
	"cmp"
	"time"

	"github.com/spf13/cobra"
)

// monday is when boards begin if nothing else is said: print must print the
// same tomorrow.
var monday = time.Date(2026, 1, 5, 6, 0, 0, 0, time.UTC)

func printCommand() *cobra.Command {
	var c choice
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print what the boards would publish, without a broker",
		Long: `Print what the boards would publish, one JSON object a line, in the order of
time. A message with "link":"dropped" is the will, which the broker publishes.`,
		Example: `  firmware-sim print --for 10s
  firmware-sim print --scenario cold-chain --seed 7 --for 24h | gzip > day.ndjson.gz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, start, err := c.load()
			if err != nil {
				return err
			}
			if start.IsZero() {
				start = monday
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			var line []byte
			for m := range s.Fleet(cmp.Or(c.seed, s.Seed), start, c.boards).All() {
				if m.At.Sub(start) >= c.length || cmd.Context().Err() != nil {
					break
				}
				line = append(m.AppendJSON(line[:0]), '\n')
				if _, err := out.Write(line); err != nil {
					return err
				}
			}
			return out.Flush()
		},
	}
	c.register(cmd, time.Minute)
	return cmd
}
