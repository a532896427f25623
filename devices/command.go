package devices

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// DefaultExpiry is how long a command is good for, from its cause on, unless
// it says otherwise.
const DefaultExpiry = 10 * time.Second

// Command is an event that tells an output something, on the topic of a device
// followed by /set, or by /OUTPUT/set where the device has several.
//
//	on
//	0.4
//	{"value": true, "id": "c-17", "ttl": "30s"}
//	{"value": "on", "for": "500ms"}
//	{"value": "on", "blink": "250ms", "times": 3}
//
// The id makes repetitions known; without one the event's own identity is it.
// time, in RFC 3339, is when the command was given, where that was earlier than
// the event.
type Command struct {
	Topic   string
	Payload []byte
	ID      event.ID
	Age     time.Duration // since its cause, by a clock that never jumps
	Expiry  time.Duration // 0 means DefaultExpiry; that in the payload comes first

	// Rule is the immediate rule that gave the command, Time when that happened
	// which the rule acted on, and Before says that it came in before this run.
	// Commands of others have no rule.
	Rule   string
	Time   event.Time
	Before bool
}

// Order is a command that has been read.
type Order struct {
	ID    string
	Value float64       // 0 for off, 1 for on, between them for outputs that can
	For   time.Duration // then back to 0, or to 1 after 0; 0 for ever
	Blink time.Duration // length of each phase; 0 for none
	Times int           // of blinking; 0 without end

	Deadline time.Time // that it must have been begun by

	cause event.ID
	act   *act // that it is of; nil for a command from the log
}

// named reports whether the id is one that the command brought along.
func (o *Order) named() bool { return o.ID != o.cause.String() }

// period is a duration in JSON: as in the configuration, or a number of seconds.
type period time.Duration

func (p *period) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		text = string(b) + "s"
	}
	d, err := config.ParseDuration(text)
	*p = period(d)
	return err
}

// ParseOrder reads the payload of a command.
func ParseOrder(c Command, now time.Time) (Order, error) {
	o := Order{ID: c.ID.String(), cause: c.ID}
	expiry, age := c.Expiry, c.Age
	if expiry == 0 {
		expiry = DefaultExpiry
	}
	text := bytes.TrimSpace(c.Payload)
	value := json.RawMessage(text)
	if bytes.HasPrefix(text, []byte("{")) {
		var in struct {
			ID    string
			Value json.RawMessage
			TTL   *period
			Time  time.Time
			For   period
			Blink period
			Times int
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil {
			return o, fmt.Errorf("read the command: %w", err)
		}
		if in.Value == nil {
			return o, errors.New(`the command says no value; write it as in {"value": "on"}`)
		}
		if len(in.ID) > 128 || in.Times < 0 {
			return o, errors.New("an id has at most 128 bytes, and times is not negative")
		}
		if in.ID != "" {
			o.ID = in.ID
		}
		if in.TTL != nil {
			expiry = time.Duration(*in.TTL)
		}
		if !in.Time.IsZero() {
			age = max(age, now.Sub(in.Time))
		}
		value, o.For, o.Blink, o.Times = in.Value, time.Duration(in.For), time.Duration(in.Blink), in.Times
	}
	o.Deadline = now.Add(expiry - age)
	var err error
	o.Value, err = parseValue(string(value))
	return o, err
}

func parseValue(text string) (float64, error) {
	word := strings.ToLower(strings.Trim(text, `"`))
	switch word {
	case "on", "true":
		return 1, nil
	case "off", "false":
		return 0, nil
	}
	v, err := strconv.ParseFloat(word, 64)
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%.40q is not a level; write on, off, or a number from 0 to 1", text)
	}
	return v, nil
}

// The states that a report gives a command.
const (
	done       = "done"
	expired    = "expired"    // too old to be begun
	superseded = "superseded" // by a newer one
	repeated   = "repeated"   // its id has been seen
	refused    = "refused"    // for the reason that comes with it
)

// reportPayload is the payload of the event that tells what became of an order.
func reportPayload(o Order, state string, err error) []byte {
	out := struct {
		ID    string  `json:"id"`
		State string  `json:"state"`
		Value float64 `json:"value"`
		Error string  `json:"error,omitempty"`
	}{o.ID, state, o.Value, ""}
	if err != nil {
		out.Error = err.Error()
	}
	b, _ := json.Marshal(out) // no field can fail
	return b
}
