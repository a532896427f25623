package sim

import (
	"time"

	"go.yaml.in/yaml/v4"
)

// Scenario says which boards there are, what they measure and how they
// misbehave. It comes from YAML by [Load], [Parse] or [Example], and is not
// changed afterwards. All durations are in the time of the boards.
type Scenario struct {
	Name  string    `yaml:"name"`  // default: the name of the file
	About string    `yaml:"about"` // one sentence for the user
	Site  string    `yaml:"site"`  // first level of every topic; default "plant"
	Seed  uint64    `yaml:"seed"`  // of what chance decides, unless the caller gives one; default 1
	Start time.Time `yaml:"start"` // when it begins; zero: when it is run

	Boards []Board `yaml:"boards"`
	Crowds []Crowd `yaml:"crowds"`

	node *yaml.Node
}

// Board is one virtual board, or Count of the same making.
type Board struct {
	Name  string `yaml:"name"` // third level of its topics; {n} stands for its number within Count
	Area  string `yaml:"area"` // second level
	Count int    `yaml:"count"`

	Buffer     int       `yaml:"buffer"`     // readings that it keeps while it cannot send; default 1000
	Clock      Clock     `yaml:"clock"`      // how wrong its clock is
	Duplicates float64   `yaml:"duplicates"` // share of the readings that it sends twice, 0 to 1
	Reconnects *Window   `yaml:"reconnects"` // the link breaks, and comes back after For
	Present    *Schedule `yaml:"present"`    // powered only at these times; default always

	Sensors []Sensor `yaml:"sensors"`

	node *yaml.Node
}

// Clock is what is wrong with the clock of a board.
type Clock struct {
	Skew  time.Duration `yaml:"skew"`  // how far it is ahead at the start; negative: behind
	PPM   float64       `yaml:"ppm"`   // microseconds that it gains per second
	Unset time.Duration `yaml:"unset"` // not set for so long after power-on; readings have no ts until then
}

// Crowd is a time in which boards send Rate times as often as usual.
type Crowd struct {
	Schedule `yaml:",inline"`
	Rate     float64  `yaml:"rate"`
	Areas    []string `yaml:"areas"` // which boards; default all

	node *yaml.Node
}

// Sensor is one metric of a board. Which keys a kind has, and what they mean
// to it, is in [Kinds]; the others are mistakes.
type Sensor struct {
	Kind   string        `yaml:"kind"`
	Metric string        `yaml:"metric"` // last level of the topic; default that of the kind
	Every  time.Duration `yaml:"every"`  // time between two readings

	Base  float64 `yaml:"base"`  // the middle of the values
	Noise float64 `yaml:"noise"` // standard deviation; never more than 3.5 of it
	Cycle float64 `yaml:"cycle"` // added at 15:00 and taken away at 03:00, UTC; of doors and motion: share that is left out at night
	Drift float64 `yaml:"drift"` // added per hour
	Low   float64 `yaml:"low"`   // least value that the sensor can show, or the tank has
	High  float64 `yaml:"high"`  // greatest value
	Chip  string  `yaml:"chip"`  // the chip, of those that the kind has: the value is as the firmware reads it from its registers
	Fault *Fault  `yaml:"fault"` // what is wrong with the chip at times

	Spikes *Spikes       `yaml:"spikes"` // single readings that are far off
	Stuck  *Window       `yaml:"stuck"`  // the value freezes
	Active *Window       `yaml:"active"` // when the door is open or something moves
	Resets time.Duration `yaml:"resets"` // the counter begins at 0 again once in so long; 0: never
	Refill time.Duration `yaml:"refill"` // time from one filling of the tank to the next

	kind *Kind
	node *yaml.Node
}

// Spikes add Size to one reading in every Every, at a moment that the seed
// chooses.
type Spikes struct {
	Every time.Duration `yaml:"every"`
	Size  float64       `yaml:"size"`
}

// UnmarshalYAML reads a scenario over the defaults.
func (s *Scenario) UnmarshalYAML(n *yaml.Node) error {
	type plain Scenario
	*s = Scenario{Site: "plant", Seed: 1, node: n}
	return n.Load((*plain)(s), yaml.WithKnownFields())
}

// UnmarshalYAML reads a board over the defaults.
func (b *Board) UnmarshalYAML(n *yaml.Node) error {
	type plain Board
	*b = Board{Count: 1, Buffer: 1000, node: n}
	return n.Load((*plain)(b), yaml.WithKnownFields())
}

// UnmarshalYAML reads a crowd and keeps where it stands.
func (c *Crowd) UnmarshalYAML(n *yaml.Node) error {
	type plain Crowd
	*c = Crowd{node: n}
	return n.Load((*plain)(c), yaml.WithKnownFields())
}

// UnmarshalYAML reads a sensor over the defaults of its kind.
func (s *Sensor) UnmarshalYAML(n *yaml.Node) error {
	type plain Sensor
	var kind Kind
	if v := child(n, "kind"); v != nil {
		kind, _ = kindNamed(v.Value)
	}
	*s = kind.defaults
	s.Metric, s.kind, s.node = kind.Metric, &kind, n
	if s.Active != nil {
		own := *s.Active // decoding writes into it
		s.Active = &own
	}
	return n.Load((*plain)(s), yaml.WithKnownFields())
}
