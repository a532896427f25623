package devices

import (
	"errors"
	"slices"
	"sync"
	"time"

	"holdfast/gateway/event"
)

// An act is a command of a rule that was carried out ahead of the log. The same
// rule gives the same command once more when the event that it acted on has its
// place in the log; the two are known to be the same by all that they have in
// common. Then the act is reported, with that command as its cause.
//
// Until then the act is newer than any other command for its output: what comes
// from the log stands there before the command that the act is of.
type act struct {
	key   actKey
	desk  *desk
	order Order

	state   string    // what became of it; "" while nobody knows
	err     error     // why
	ended   time.Time // when that was known
	due     time.Time // when it is reported, with or without its command
	logged  bool      // its command is in the log: order.cause
	told    bool      // it has been reported without
	earlier bool      // of an earlier run
}

// actKey is what an act and its command in the log have in common.
type actKey struct {
	Rule    string     `json:"rule"`
	Topic   string     `json:"topic"`
	Payload string     `json:"payload"`
	Time    event.Time `json:"time"` // of the event that the rule acted on
}

func (c *Command) key() actKey { return actKey{c.Rule, c.Topic, string(c.Payload), c.Time} }

// maxActs are remembered. If there are more, those that came first are reported
// without their commands, and these are refused.
const maxActs = 10_000

// unlogged is how long an act waits for its command.
const unlogged = DefaultExpiry

// acts are those whose command has not come, or that are not over.
type acts struct {
	mu        sync.Mutex
	all       []*act      // in the order of their coming
	forgotten event.Time  // up to which some were dropped
	alarm     *time.Timer // for those that wait too long; nil for none
	closed    bool
}

// begin notes an act of the desk.
func (a *acts) begin(c Command, d *desk, o Order) *act {
	a.mu.Lock()
	one := &act{key: c.key(), desk: d, order: o}
	a.all = append(a.all, one)
	var tell []*act
	if len(a.all) > maxActs {
		oldest := a.all[0]
		a.all = slices.Delete(a.all, 0, 1)
		a.forgotten = max(a.forgotten, oldest.key.Time)
		if oldest.state != "" && !oldest.told {
			tell = append(tell, oldest)
		}
	}
	a.mu.Unlock()
	tellAll(tell)
	return one
}

// end notes what became of an act. It is reported if its command has come, or
// if it was forgotten meanwhile.
func (a *acts) end(one *act, state string, err error) {
	a.mu.Lock()
	one.state, one.err, one.ended = state, err, time.Now()
	one.due = one.ended.Add(unlogged)
	known := slices.Index(a.all, one)
	var tell []*act
	if known < 0 || one.logged {
		tell = append(tell, one)
		if known >= 0 {
			a.all = slices.Delete(a.all, known, known+1)
		}
	}
	a.arm(unlogged)
	a.mu.Unlock()
	tellAll(tell)
}

// claim finds the act of a command that is in the log, and reports whether there
// is one: then the command has been carried out, or is about to be.
func (a *acts) claim(c Command) bool {
	a.mu.Lock()
	key := c.key()
	i := slices.IndexFunc(a.all, func(one *act) bool { return !one.logged && one.key == key })
	if i < 0 {
		a.mu.Unlock()
		return false
	}
	one := a.all[i]
	one.logged = true
	one.order.cause, one.order.ID = c.ID, c.ID.String()
	var tell []*act
	if one.state != "" {
		a.all = slices.Delete(a.all, i, i+1)
		if !one.told {
			tell = append(tell, one)
		}
	}
	a.mu.Unlock()
	tellAll(tell)
	return true
}

// unsure reports whether nobody can tell if a command was carried out ahead of
// the log.
func (a *acts) unsure(c Command) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return c.Rule != "" && (c.Before || c.Time <= a.forgotten)
}

// ahead reports whether there is an act of the desk whose command is yet to come.
func (a *acts) ahead(d *desk) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.all, func(one *act) bool { return one.desk == d && !one.logged && !one.told })
}

// arm makes sweep run in so long at the latest; a.mu is held.
func (a *acts) arm(in time.Duration) {
	if a.alarm == nil && !a.closed && len(a.all) > 0 {
		a.alarm = time.AfterFunc(in, a.sweep)
	}
}

// begun sees to acts of an earlier run.
func (a *acts) begun() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.arm(unlogged)
}

// sweep reports acts whose commands do not come: what the rule acted on did not
// get into the log, or the rule saw it differently there. They are kept, so that
// a command that comes all the same is known.
func (a *acts) sweep() {
	a.mu.Lock()
	now := time.Now()
	var late []*act
	next := time.Duration(0)
	for _, one := range a.all {
		switch {
		case one.told || one.state == "":
		case !now.Before(one.due):
			one.told = true
			late = append(late, one)
		case next == 0 || one.due.Sub(now) < next:
			next = one.due.Sub(now)
		}
	}
	a.alarm = nil
	if next > 0 {
		a.arm(next)
	}
	a.mu.Unlock()
	tellAll(late)
}

// tellAll tells the log of acts. One without its command has the name of the rule
// and the time of the event as its id.
func tellAll(all []*act) {
	for _, one := range all {
		o := one.order
		if !one.logged {
			o.ID = one.key.Rule + "@" + one.key.Time.String()
		}
		one.desk.tell(o, one.state, one.err, one.ended)
	}
}

// actsName is the name of what is remembered over a stop in order: the commands
// of the last acts come at the next start.
const actsName = "acts"

type savedAct struct {
	actKey
	State string    `json:"state"`
	Value float64   `json:"value"`
	Error string    `json:"error,omitempty"`
	Ended time.Time `json:"ended"`
	Told  bool      `json:"told,omitempty"`
}

// load takes what an earlier run left, which is there once only.
func (a *acts) load(m *Memory, desks map[string]*desk) error {
	var saved []savedAct
	if err := m.Load(actsName, &saved); err != nil || len(saved) == 0 {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range saved {
		d := desks[s.Topic]
		if d == nil {
			continue
		}
		one := &act{
			key: s.actKey, desk: d, order: Order{Value: s.Value}, state: s.State, ended: s.Ended, told: s.Told,
			due: time.Now().Add(unlogged), earlier: true,
		}
		if s.Error != "" {
			one.err = errors.New(s.Error)
		}
		a.all = append(a.all, one)
	}
	return m.Save(actsName, []savedAct{})
}

// close keeps what is left for the next run.
func (a *acts) close(m *Memory) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.alarm != nil {
		a.alarm.Stop()
	}
	var left []savedAct
	for _, one := range a.all {
		if one.state == "" || one.told && one.earlier {
			continue
		}
		s := savedAct{actKey: one.key, State: one.state, Value: one.order.Value, Ended: one.ended, Told: one.told}
		if one.err != nil {
			s.Error = one.err.Error()
		}
		left = append(left, s)
	}
	if len(left) == 0 {
		return nil
	}
	return m.Save(actsName, left)
}
