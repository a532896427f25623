package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"holdfast/gateway/ops"
)

// sample is a status and when it was taken: two of them make a rate.
type sample struct {
	status ops.Status
	at     time.Time
}

// writeStatus writes a status for people. With an earlier sample of the same
// run it adds rates.
func writeStatus(w io.Writer, s sample, before *sample, colour bool) error {
	v := view{Status: s.status, now: s.at, colour: colour}
	if before != nil && before.status.Started.Equal(s.status.Started) {
		v.before = &before.status
		v.since = v.now.Sub(before.at).Seconds()
	}
	v.head()
	v.streams()
	v.destinations()
	v.sessions()
	v.replays()
	v.rules()
	_, err := v.WriteTo(w)
	return err
}

type view struct {
	ops.Status
	bytes.Buffer
	now    time.Time
	before *ops.Status // nil without rates
	since  float64     // seconds after before
	colour bool
}

func (v *view) head() {
	fmt.Fprintf(v, "gateway %s is %s, up %s (holdfast %s, epoch %s)\n",
		v.Gateway, v.state(), age(v.Uptime.Std()), v.Version, v.Epoch)
	for _, r := range v.Reasons {
		fmt.Fprintf(v, "  ! %s\n", r)
	}
	fmt.Fprintf(v, "store   %s: %s, %s free, %s commits", v.Store.Path, size(v.Store.Bytes), size(v.Store.Free), count(v.Store.Commits))
	if l := v.Store.Latency; l.P50 > 0 {
		fmt.Fprintf(v, " (half within %s, 99 %% within %s)", short(l.P50.Std()), short(l.P99.Std()))
	}
	m := v.MQTT
	fmt.Fprintf(v, "\nmqtt    %s: %s, %s received%s, %s sent%s", strings.Join(m.Listen, " "), plural(m.Clients, "client"),
		count(m.Received), v.rate(func(s *ops.Status) (uint64, bool) { return s.MQTT.Received, true }),
		count(m.Sent), v.rate(func(s *ops.Status) (uint64, bool) { return s.MQTT.Sent, true }))
	if m.Refused > 0 {
		fmt.Fprintf(v, ", %s refused", count(m.Refused))
	}
	if m.Absent > 0 {
		fmt.Fprintf(v, ", %s away with %s waiting", plural(m.Absent, "session"), plural(int(m.Waiting), "message"))
	}
	if m.Dropped > 0 {
		fmt.Fprintf(v, ", %s dropped for subscribers", count(m.Dropped))
	}
	if m.Violations > 0 {
		fmt.Fprintf(v, ", protocol broken %s times", count(m.Violations))
	}
	if in := v.Ingest; in != nil {
		fmt.Fprintf(v, "\ningest  %s: %s events%s", in.Listen, count(in.Events), v.rate(func(s *ops.Status) (uint64, bool) {
			if s.Ingest == nil {
				return 0, false
			}
			return s.Ingest.Events, true
		}))
		for _, n := range []struct {
			requests uint64
			what     string
		}{{in.Invalid, "invalid"}, {in.Unauthorized, "unauthorized"}, {in.Refused, "refused"}} {
			if n.requests > 0 {
				fmt.Fprintf(v, ", %s requests %s", count(n.requests), n.what)
			}
		}
	}
	if d := v.Dead; d != (ops.DeadStatus{}) {
		fmt.Fprintf(v, "\ndead    %s open, %s tried again, %s purged", plural(int(d.Open), "letter"), count(d.Retried), count(d.Purged))
		if d.Lost > 0 {
			fmt.Fprintf(v, ", %s lost to the limits of the stream", count(d.Lost))
		}
		fmt.Fprint(v, "; see holdfast dead list")
	}
	if v.HTTP != "" {
		fmt.Fprintf(v, "\nhttp    %s", v.HTTP)
	}
	fmt.Fprintln(v)
}

func (v *view) state() string {
	colour := map[ops.State]string{ops.OK: "32", ops.Degraded: "33", ops.Failed: "31"}[v.State]
	if !v.colour || colour == "" {
		return string(v.State)
	}
	return "\x1b[" + colour + "m" + string(v.State) + "\x1b[0m"
}

// rate returns how fast a counter grew since the sample before, in brackets,
// or nothing where that is not known.
func (v *view) rate(counter func(*ops.Status) (uint64, bool)) string {
	if v.before == nil || v.since <= 0 {
		return ""
	}
	was, ok := counter(v.before)
	is, _ := counter(&v.Status)
	if !ok || is < was {
		return ""
	}
	return " (" + rate(float64(is-was)/v.since) + ")"
}

func (v *view) streams() {
	if len(v.Streams) == 0 {
		return
	}
	t := v.table("STREAM", "EVENTS", "OFFSETS", "ON DISK", "MAX", "KEEP", "APPENDED", "DROPPED", "EXPIRED", "DAMAGED", "REFUSED")
	for _, s := range v.Streams {
		keep := "-"
		if s.Keep != nil {
			keep = age(s.Keep.Std())
		}
		t.row(s.Name, count(s.Events()), offsets(s), size(s.Bytes), size(s.Max), keep,
			count(s.Appended)+v.rate(func(st *ops.Status) (uint64, bool) {
				for _, was := range st.Streams {
					if was.Name == s.Name {
						return was.Appended, true
					}
				}
				return 0, false
			}),
			count(s.Dropped), count(s.Expired), count(s.Damaged), count(s.Refused))
	}
	t.flush()
}

// offsets shows which events a stream holds.
func offsets(s ops.StreamStatus) string {
	if s.Events() == 0 {
		return "-"
	}
	return fmt.Sprintf("%d-%d", s.First, s.Next-1)
}

func (v *view) sessions() {
	if len(v.MQTT.Ledgers) == 0 {
		return
	}
	t := v.table("SESSION", "STATE", "WAITING", "DELIVERED", "DROPPED", "EXPIRED")
	for _, s := range v.MQTT.Ledgers {
		state, waiting := "connected", "-"
		if !s.Connected {
			if state = "away"; s.Away > 0 {
				state += " " + age(s.Away.Std())
			}
		}
		if s.Waiting > 0 {
			waiting = fmt.Sprintf("%s (%s)", count(s.Waiting), size(s.Bytes))
		}
		t.row(s.Client, state, waiting, count(s.Delivered), count(s.Dropped), count(s.Expired))
	}
	t.flush()
}

func (v *view) destinations() {
	if len(v.Destinations) == 0 {
		return
	}
	t := v.table("DESTINATION", "KIND", "STREAM", "STATE", "LAG", "OLDEST", "LAST SUCCESS")
	for _, d := range v.Destinations {
		lag, oldest, success := "-", "-", "never"
		if d.Lag > 0 {
			lag, oldest = count(d.Lag), age(d.Oldest.Std())
			if d.LagBytes > 0 {
				lag += " (" + size(d.LagBytes) + ")"
			}
		}
		if !d.LastSuccess.IsZero() {
			success = age(v.now.Sub(d.LastSuccess)) + " ago"
		}
		t.row(d.Name, d.Kind, d.Stream, string(d.State), lag, oldest, success)
	}
	t.flush()
	for _, d := range v.Destinations {
		if d.LastError == "" || d.Attempts == 0 {
			continue
		}
		fmt.Fprintf(v, "  ! %s: %s failed", d.Name, plural(d.Attempts, "attempt"))
		if !d.NextAttempt.IsZero() {
			fmt.Fprintf(v, ", next in %s", age(d.NextAttempt.Sub(v.now)))
		}
		fmt.Fprintf(v, ": %s\n", readable([]byte(d.LastError)))
	}

	t = v.table("LEDGER", "APPENDED", "DELIVERED", "FILTERED", "EXPIRED", "DROPPED", "DEAD", "DAMAGED", "SKIPPED", "PENDING")
	for _, d := range v.Destinations {
		l := d.Ledger
		t.row(d.Name+"/"+d.Stream, count(l.Appended),
			count(l.Delivered)+v.rate(func(st *ops.Status) (uint64, bool) {
				for _, was := range st.Destinations {
					if was.Name == d.Name && was.Stream == d.Stream {
						return was.Ledger.Delivered, true
					}
				}
				return 0, false
			}),
			count(l.Filtered), count(l.Expired), count(l.Dropped), count(l.Dead), count(l.Damaged), count(l.SkippedAtStart), count(l.Pending))
	}
	t.flush()
	for _, d := range v.Destinations {
		if !d.Ledger.Balanced() {
			fmt.Fprintf(v, "  ! the ledger of %s/%s does not balance; please report this\n", d.Name, d.Stream)
		}
	}
}

func (v *view) replays() {
	if len(v.Replays) == 0 {
		return
	}
	fmt.Fprintln(v)
	_ = printReplays(v, outputText, v.Replays) // to memory
}

func (v *view) rules() {
	if len(v.Rules) == 0 {
		return
	}
	t := v.table("RULE", "STREAM", "MATCHED", "PASSED", "FAILED", "LATE", "EMITTED", "LAG")
	for _, r := range v.Rules {
		lag := "-"
		if r.Processor.Lag > 0 {
			lag = count(r.Processor.Lag)
		}
		t.row(r.Name, r.Stream,
			count(r.Matched)+v.rate(func(st *ops.Status) (uint64, bool) {
				for _, was := range st.Rules {
					if was.Name == r.Name {
						return was.Matched, true
					}
				}
				return 0, false
			}),
			count(r.Passed), count(r.Failed), count(r.Late), count(r.Emitted), lag)
	}
	t.flush()
}

// table aligns columns; the first of each row names its subject.
type table struct{ *tabwriter.Writer }

func (v *view) table(columns ...string) table {
	fmt.Fprintln(v)
	return newTable(v, columns...)
}

func newTable(w io.Writer, columns ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	t.row(columns...)
	return t
}

func (t table) row(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }

func (t table) flush() { _ = t.Flush() } // to memory
