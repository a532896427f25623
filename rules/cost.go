package rules

import (
	"fmt"
	"time"
)

// sampleEvery is how many events there are for one whose cost is measured, while
// no rule is suspected of taking longer than its budget; else all are.
const sampleEvery = 32

// It takes enough samples to judge a rule, or a few that have taken longer than
// patience.
const (
	enough   = 64
	few      = 8
	patience = 1e9 // nanoseconds
)

// cost is what a rule takes on average, in nanoseconds. One that takes more than its
// budget is a suspect, of which all is measured anew: it is too expensive if that is
// more as well.
type cost struct {
	samples int
	mean    float64
	suspect bool
}

// add takes in a sample and returns how many more rules are suspects with it. No
// single sample decides: it may have been the machine.
func (c *cost) add(nanos, budget int64) (suspects int) {
	c.samples++
	c.mean += (min(float64(nanos), 30*float64(budget)) - c.mean) / float64(min(c.samples, enough))
	over := c.mean > float64(budget)
	switch {
	case over && !c.suspect:
		*c = cost{suspect: true}
		return 1
	case !over && c.suspect && c.samples >= enough:
		*c = cost{}
		return -1
	}
	return 0
}

// reset forgets the samples and returns how many suspects there are less.
func (c *cost) reset() (suspects int) {
	if c.suspect {
		suspects = 1
	}
	*c = cost{}
	return suspects
}

func (r *rule) expensive() bool {
	c := &r.cost
	return !r.off && c.suspect && c.mean > float64(r.budget) && (c.samples >= enough || c.samples >= few && c.mean*float64(c.samples) >= patience)
}

// Expensive returns the rules that take longer than their budget, each with the
// reason in an operator's words. What to do with them is an [Input].
func (e *Engine) Expensive() (rules, reasons []string) {
	if !e.costly {
		return nil, nil
	}
	e.costly = false
	for _, r := range e.rules {
		if r.expensive() {
			e.costly = true
			rules = append(rules, r.Name)
			reasons = append(reasons, fmt.Sprintf("it takes %v of processor time for an event on average, its budget is %v; simplify it or raise budget",
				time.Duration(r.cost.mean).Round(10*time.Microsecond), time.Duration(r.budget)))
		}
	}
	return rules, reasons
}
