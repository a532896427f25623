package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	sim "holdfast/firmware-sim"
)

// choice is the flags that say what is simulated.
type choice struct {
	file   string
	seed   uint64
	boards int
	start  string
	length time.Duration
}

func (c *choice) register(cmd *cobra.Command, length time.Duration) {
	f := cmd.Flags()
	f.StringVar(&c.file, "scenario", "plant", "YAML file, or one of "+strings.Join(sim.Examples(), ", "))
	f.Uint64Var(&c.seed, "seed", 0, "what chance decides; 0 is the seed of the scenario")
	f.IntVar(&c.boards, "boards", 0, "so many boards, fewer or more than the scenario has; 0 is as many")
	f.StringVar(&c.start, "start", "", "clock of the boards at the beginning, such as 2026-01-05T06:00:00Z")
	f.DurationVar(&c.length, "for", length, "end after so long, by the clock of the boards")
}

// load reads the scenario and checks the other flags. The time is zero if
// neither flag nor scenario gives it.
func (c *choice) load() (*sim.Scenario, time.Time, error) {
	if c.boards < 0 || c.length < 0 {
		return nil, time.Time{}, usagef("--boards and --for must not be negative")
	}
	load := sim.Load
	if slices.Contains(sim.Examples(), c.file) {
		load = sim.Example
	}
	s, err := load(c.file)
	if err != nil {
		return nil, time.Time{}, err
	}
	start := s.Start
	if c.start != "" {
		if start, err = time.Parse(time.RFC3339, c.start); err != nil {
			return nil, time.Time{}, usagef("--start %q: give a time such as 2026-01-05T06:00:00Z", c.start)
		}
	}
	return s, start, nil
}
