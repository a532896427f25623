package rules

import (
	"slices"

	"holdfast/gateway/event"
	"holdfast/rules/window"
)

// function is a function with a memory by key.
type function struct {
	name string
	args []kind
	span string // a duration follows the arguments: what it is
	// result is the kind of the result; argument: that of the first argument
	result kind
	step   func(c *cell, in []window.Value, span, now event.Time) any
	usage  string
	doc    string
}

// argument stands for the kind of the first argument.
const argument kind = 255

// maxRecent bounds the values that duplicate keeps for one key.
const maxRecent = 1000

// remembering lists the functions with a memory. Time is the event's time by
// the rule; where it goes back it stands still.
var remembering = []*function{
	{
		name: "prev", args: []kind{anything}, result: anything, usage: "prev(x)",
		doc: "The value of x at the event before; nil at the first one, as in prev(x) ?? x.",
		step: func(c *cell, in []window.Value, _, _ event.Time) any {
			was := c.value
			c.value = keep(in[0])
			return was.Any()
		},
	}, {
		name: "change", args: []kind{number}, result: number, usage: "change(x)",
		doc: "The difference of x to the event before; 0 at the first one.",
		step: func(c *cell, in []window.Value, _, _ event.Time) any {
			was, set := c.number, c.set
			c.number, c.set = in[0].Num, true
			if !set {
				return 0.0
			}
			return in[0].Num - was
		},
	}, {
		name: "changed", args: []kind{anything}, result: truth, usage: "changed(x)",
		doc: "Whether x differs from the event before; true at the first one.",
		step: func(c *cell, in []window.Value, _, _ event.Time) any {
			differs := !c.set || c.value != in[0]
			if differs {
				c.value, c.set = keep(in[0]), true
			}
			return differs
		},
	}, {
		name: "rising", args: []kind{truth}, result: truth, usage: "rising(condition)",
		doc: "Whether the condition begins to hold; true at the first event if it holds there.",
		step: func(c *cell, in []window.Value, _, _ event.Time) any {
			was, holds := c.flag, in[0].Num != 0
			c.flag = holds
			return holds && !was
		},
	}, {
		name: "falling", args: []kind{truth}, result: truth, usage: "falling(condition)",
		doc: "Whether the condition ceases to hold; false at the first event.",
		step: func(c *cell, in []window.Value, _, _ event.Time) any {
			was, holds := c.flag, in[0].Num != 0
			c.flag = holds
			return was && !holds
		},
	}, {
		name: "hysteresis", args: []kind{number, number, number}, result: truth, usage: "hysteresis(x, on, off)",
		doc: "True from when x reaches on until it reaches off. With on above off it watches for high values, else for low ones.",
		step: func(c *cell, in []window.Value, _, _ event.Time) any {
			x, on, off := in[0].Num, in[1].Num, in[2].Num
			if on < off {
				x, on, off = -x, -on, -off
			}
			switch {
			case x >= on:
				c.flag = true
			case x <= off:
				c.flag = false
			}
			return c.flag
		},
	}, {
		name: "debounce", args: []kind{anything}, span: "how long x must stay", result: argument, usage: `debounce(x, "2s")`,
		doc: "The last value that x kept for that long; its first value until then.",
		step: func(c *cell, in []window.Value, span, now event.Time) any {
			switch {
			case !c.set:
				c.set, c.value, c.waiting, c.at = true, keep(in[0]), keep(in[0]), now
			case c.waiting != in[0]:
				if now-c.at >= span {
					c.value = c.waiting // it was so until now
				}
				c.waiting, c.at = keep(in[0]), now
			case now-c.at >= span:
				c.value = c.waiting
			}
			return c.value.Any()
		},
	}, {
		name: "throttle", args: []kind{truth}, span: "how long to be silent", result: truth, usage: `throttle(condition, "10s")`,
		doc: "The condition, but true at most once in that time.",
		step: func(c *cell, in []window.Value, span, now event.Time) any {
			if in[0].Num == 0 || c.set && now-c.at < span {
				return false
			}
			c.set, c.at = true, now
			return true
		},
	}, {
		name: "duplicate", args: []kind{anything}, span: "how long to remember x", result: truth, usage: `duplicate(x, "10m")`,
		doc:  "Whether x was there in the time before, as in where: not duplicate(id, \"10m\"). It keeps the last 1000 values of a key.",
		step: duplicate,
	}, {
		name: "counter", args: []kind{truth}, result: number, usage: "counter(condition)",
		doc: "How many events the condition has held for, this one included.",
		step: func(c *cell, in []window.Value, _, _ event.Time) any {
			c.number += in[0].Num
			return c.number
		},
	}, {
		name: "total", args: []kind{number}, result: number, usage: "total(x)",
		doc: "The sum of x over all events.",
		step: func(c *cell, in []window.Value, _, _ event.Time) any {
			c.number += in[0].Num
			return c.number
		},
	},
}

// recent are values by when they were let through, and the values in that
// order.
type recent struct {
	at    map[window.Value]event.Time
	order []window.Value
}

func duplicate(c *cell, in []window.Value, span, now event.Time) any {
	r := c.recent
	if r == nil {
		r = &recent{at: map[window.Value]event.Time{}}
		c.recent = r
	}
	for len(r.order) > 0 && now-r.at[r.order[0]] >= span {
		r.drop()
	}
	if at, known := r.at[in[0]]; known && now-at < span {
		return true
	} else if known {
		r.order = slices.DeleteFunc(r.order, func(v window.Value) bool { return v == in[0] })
	}
	if len(r.order) >= maxRecent {
		r.drop()
	}
	v := keep(in[0])
	r.at[v] = now
	r.order = append(r.order, v)
	return false
}

// drop forgets the value that was let through first.
func (r *recent) drop() {
	delete(r.at, r.order[0])
	r.order = r.order[1:]
}

func remembered(name string) *function {
	for _, f := range remembering {
		if f.name == name {
			return f
		}
	}
	return nil
}
