package rules

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"holdfast/gateway/event"
)

// randomComparisons writes a condition that compares fields with constants.
func randomComparisons(r *rand.Rand) string {
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	parts := make([]string, 1+r.IntN(4))
	for i := range parts {
		number := pick("n", "o.n", `field("a b")`)
		order := pick("==", "!=", "<", ">", "<=", ">=")
		constant := pick("0", "1", "-1", "2.5", "-2.5", "1e3", "0x10", "9007199254740993.0")
		switch r.IntN(6) {
		case 0:
			parts[i] = constant + " " + order + " " + number
		case 1:
			parts[i] = "s " + pick("==", "!=") + ` "` + pick("x", "y", "", `ü\"`) + `"`
		case 2:
			parts[i] = pick("b", "!b", "not b", "b == true", "b != true", "b == false", "false != b")
		default:
			parts[i] = number + " " + order + " " + constant
		}
	}
	return strings.Join(parts, pick(" && ", " || ", " and ", " or "))
}

// Beside what is no comparison of a field, expr evaluates the same condition.
func TestComparisonsAreWhatExprMakesOfThem(t *testing.T) {
	var holds, not, failed int
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 12))
		text := randomComparisons(r)
		const head = `topic != "" && (`
		quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
		e := engine(t, "- {name: r, from: '#', where: "+quoted(text)+", emit: {stream: out, topic: o}}\n")
		slow := engine(t, "- {name: r, from: '#', where: "+quoted(head+text+")")+", emit: {stream: out, topic: o}}\n")
		if e.rules[0].where.simple.parts == nil || slow.rules[0].where.simple.parts != nil {
			t.Fatalf("%s: comparisons are not told from what they are not", text)
		}
		for offset := range uint64(12) {
			number := func() string {
				return fmt.Sprint([]any{0, 1, -1, 2.5, -2.5, 1000, 16, int64(9007199254740992), `"1"`, "null", "1e400"}[r.IntN(11)])
			}
			fields := []string{}
			for _, f := range []string{`"n":` + number(), `"o":{"n":` + number() + `}`, `"a b":` + number(),
				`"s":` + []string{`"x"`, `"y"`, `""`, `"ü\""`, `"\u0078"`, "3"}[r.IntN(6)], `"b":` + []string{"true", "false", `"on"`}[r.IntN(3)]} {
				if r.IntN(12) > 0 {
					fields = append(fields, f)
				}
			}
			ev := event.Event{Offset: offset + 1, Topic: "t", Payload: []byte("{" + strings.Join(fields, ",") + "}")}
			var got, want Result
			e.Step([]event.Event{ev}, &got)
			slow.Step([]event.Event{ev}, &want)
			switch {
			case len(got.Outputs) != len(want.Outputs) || len(got.Failures) != len(want.Failures):
				t.Fatalf("%s on %s: %d outputs and %d failures, expr has %d and %d", text, ev.Payload,
					len(got.Outputs), len(got.Failures), len(want.Outputs), len(want.Failures))
			case len(got.Failures) > 0:
				failed++
				g, w := got.Failures[0], want.Failures[0]
				if g.Err.Error() != w.Err.Error() || g.Pos.Col != w.Pos.Col-len(head) || g.Pos.Line != w.Pos.Line {
					t.Fatalf("%s on %s: got %v at %v, want %v at %v less %d", text, ev.Payload, g.Err, g.Pos, w.Err, w.Pos, len(head))
				}
			case len(got.Outputs) > 0:
				holds++
			default:
				not++
			}
		}
	}
	if holds < 300 || not < 300 || failed < 300 {
		t.Errorf("%d hold, %d do not, %d fail: that is too tame", holds, not, failed)
	}
}
