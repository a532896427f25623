package gateway

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

// Whatever properties a client gave its message, those of the letter are found
// behind them, and the event comes out as it went in.
func FuzzALetterIsReadAsItWasWritten(f *testing.F) {
	f.Add("a", "b", "400", "cloud", "", 3, int64(5), true)
	f.Add(propReason, propDestination, "", "", "hot", 0, int64(-1), false)
	f.Fuzz(func(t *testing.T, name, value, text, destination, rule string, attempts int, at int64, cause bool) {
		e := event.Event{Epoch: 1, Offset: 2, Received: event.Time(at), Topic: "t", Payload: []byte(value)}
		if name != "" {
			e.Properties = &event.Properties{User: []event.Property{{Name: name, Value: value}}}
		}
		if cause {
			e.Cause = &event.ID{Gateway: "g", Epoch: uint64(at), Stream: "events", Offset: 7}
		}
		why := letter{destination: destination, rule: rule, reason: reasonRefused, err: text, attempts: attempts, first: 1, last: 2}
		d := deadEvent(&e, "g", "events", why)
		got, read := readLetter(&d)
		if diff := cmp.Diff(e, got); diff != "" || read != why {
			t.Errorf("%+v became %+v\n%s", why, read, diff)
		}
		// Nor is a record that nobody made this way a reason to fail.
		if d.Properties != nil {
			d.Properties.User = []event.Property{{Name: propReason, Value: name}, {Name: propCause, Value: value}, {Name: propReceived, Value: text}}
		}
		d.Cause = nil
		readLetter(&d)
	})
}
