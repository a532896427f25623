package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"holdfast/gateway/demo"
)

// errLedger says that the demonstration has found what it is to rule out.
var errLedger = errors.New("the ledger does not add up; please report this")

// demoCommand returns `holdfast demo`.
func demoCommand() *cobra.Command {
	d := demonstration{length: 30 * time.Second, seed: 1}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show on this machine what a gateway does while the cloud is away",
		Long: `Run a gateway with simulated boards, a simulated sensor on an I²C bus, a few
rules, and a receiver that plays the cloud. For the middle third of the time the
link to the cloud is down. At the end a ledger compares what sensors were told,
what is in the log, and what the cloud has.

It needs no network, no configuration and no free port of your choice, and leaves
nothing behind. Ctrl-C ends it early, with the ledger. Exit code 0 means that the
ledger adds up.`,
		Example: `  holdfast demo
  holdfast demo --for 2m --keep`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd) },
	}
	cmd.Flags().DurationVar(&d.length, "for", d.length, "how long the sensors send")
	cmd.Flags().Uint64Var(&d.seed, "seed", d.seed, "what chance decides about the boards")
	cmd.Flags().BoolVar(&d.keep, "keep", false, "keep configuration, store and log, and say how to look at them")
	return cmd
}

// demonstration is what the flags of `holdfast demo` say.
type demonstration struct {
	length time.Duration
	seed   uint64
	keep   bool
}

func (d *demonstration) run(cmd *cobra.Command) error {
	switch {
	case d.length < time.Second:
		return usagef("--for %s: give at least 1s", d.length)
	case d.seed == 0:
		return usagef("--seed 0: give 1 or more")
	}
	dir, err := demoDir()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "holdfast demo: %d simulated boards and two sensors on buses -> gateway -> a cloud that is away from %s to %s\n",
		demo.Boards, short(d.length/3), short(d.length*2/3))
	fmt.Fprintf(out, "watch it from another terminal: holdfast status --watch --config %s\n\n", filepath.Join(dir, demo.ConfigName))

	show := newDemoShow(out, d.length)
	report, err := demo.Run(cmd.Context(), demo.Options{
		Dir: dir, For: d.length, Seed: d.seed, Parts: parts(), Version: thisBuild().Version,
		Interval: show.interval, Look: show.look, Tell: show.tell,
	})
	if err == nil {
		writeDemoReport(out, &report)
		if len(report.Faults) > 0 {
			err = errLedger
		}
	}
	if err == nil && !d.keep {
		return os.RemoveAll(dir)
	}
	writeDemoPlace(out, dir)
	return err
}

// maxDemoDir leaves room for the name of a socket, whose path can have 107
// bytes.
const maxDemoDir = 80

// demoDir makes the directory of the gateway.
func demoDir() (string, error) {
	const pattern = "holdfast-demo-"
	dir, err := os.MkdirTemp("", pattern)
	if err != nil || len(dir) <= maxDemoDir {
		return dir, err
	}
	os.Remove(dir)
	return os.MkdirTemp("/tmp", pattern)
}

func writeDemoPlace(w io.Writer, dir string) {
	file := filepath.Join(dir, demo.ConfigName)
	fmt.Fprintf(w, "\nkept in %s: %s, gateway.log and the store. To look at it, start its gateway again:\n", dir, demo.ConfigName)
	fmt.Fprintf(w, "  holdfast run --config %s\n", file)
	fmt.Fprintf(w, "and in another terminal:\n")
	fmt.Fprintf(w, "  holdfast status --config %s\n", file)
	fmt.Fprintf(w, "  holdfast tail --stream alerts --from 1 --config %s\n", file)
}

// writeDemoReport writes the ledger, and last whether it balances.
func writeDemoReport(w io.Writer, r *demo.Report) {
	var v view
	t := v.table("LEDGER", "APPENDED", "DELIVERED", "PENDING", "DEAD", "DROPPED", "OTHER", "IN THE CLOUD", "TWICE")
	for _, a := range r.Accounts {
		t.row(a.Destination+"/"+a.Stream, count(a.Appended), count(a.Delivered), count(a.Pending), count(a.Dead),
			count(a.Dropped), count(a.Other()), count(a.Received), count(a.Again))
	}
	t.flush()
	fmt.Fprintln(&v)
	if r.Outage > 0 {
		fmt.Fprintf(&v, "the cloud was away for %s, and the backlog grew to %s\n", short(r.Outage), plural(int(r.Peak), "event"))
	}
	if n := r.Again(); n > 0 {
		fmt.Fprintf(&v, "%s arrived twice, because the link broke before the answer; by the same id they count once\n", plural(int(n), "event"))
	}
	if l := r.Prompt; l.Count > 0 {
		fmt.Fprintf(&v, "alerts were in the cloud %s after the sensor's event, %s at most", short(l.P50), short(l.Max))
		if r.Held.Count > 0 {
			fmt.Fprintf(&v, "; %s waited for the link", plural(r.Held.Count, "alert"))
		}
		fmt.Fprintln(&v)
	}
	for _, text := range r.Faults {
		fmt.Fprintf(&v, "  ! %s\n", text)
	}
	balance := "balances"
	if len(r.Faults) > 0 {
		balance = "does not balance"
	}
	events, results := r.Delivered()
	fmt.Fprintf(&v, "ledger %s: %s events acknowledged to the sensors%s, %s in the log, %s + %s results delivered, %s lost\n",
		balance, count(r.Acknowledged), demoExtras(r), count(r.Logged), count(events), count(results), count(r.Lost))
	_, _ = v.WriteTo(w)
}

// demoExtras names what is in the log beside what was acknowledged.
func demoExtras(r *demo.Report) string {
	var text string
	if r.Wills > 0 {
		text += " + " + plural(int(r.Wills), "last will")
	}
	if n := r.Repeated(); n > 0 {
		text += " + " + count(n) + " sent twice"
	}
	return text
}

// demoShow shows the demonstration as it goes: as a block that is painted over
// and over on a terminal, else line by line.
type demoShow struct {
	out      io.Writer
	length   time.Duration
	interval time.Duration
	colour   bool
	live     bool
	painted  int // lines of the block on the screen
	now      demo.Moment
	before   []demo.Moment // of the last second
	news     []demo.News   // the latest, oldest first
}

const demoNews = 5 // lines of news in the block

func newDemoShow(out io.Writer, length time.Duration) *demoShow {
	s := &demoShow{out: out, length: length, interval: time.Second, colour: colours(out)}
	if f, ok := out.(*os.File); ok && isTerminal(out) && os.Getenv("TERM") != "dumb" {
		if _, height, err := term.GetSize(int(f.Fd())); err == nil && height > len(s.block()) {
			s.live, s.interval = true, 200*time.Millisecond
		}
	}
	return s
}

func (s *demoShow) look(m demo.Moment) {
	before := s.now
	s.now = m
	if s.live {
		s.before = append(s.before, m)
		for len(s.before) > 1 && m.At-s.before[0].At > 1500*time.Millisecond {
			s.before = s.before[1:]
		}
		s.paint()
		return
	}
	before.At, before.Commit = m.At, m.Commit
	if m == before {
		return // nothing has happened but time
	}
	link := "link up"
	if !m.Up {
		link = "link down"
	}
	fmt.Fprintf(s.out, "%s  %5s in  %3s alerts  %5s in the cloud  %4s waiting  %s\n",
		demoClock(m.At), count(m.Acknowledged), count(m.Alerts), count(m.Delivered), count(m.Backlog), link)
}

func (s *demoShow) tell(n demo.News) {
	if s.live {
		s.news = append(s.news, n)
		s.news = s.news[max(0, len(s.news)-demoNews):]
		s.paint()
		return
	}
	fmt.Fprintln(s.out, s.line(n))
}

func (s *demoShow) line(n demo.News) string {
	mark := "--"
	colour := ""
	switch n.Kind {
	case demo.Alert:
		mark, colour = "!!", "33"
	case demo.LinkDown:
		colour = "31"
	case demo.LinkUp:
		colour = "32"
	}
	return demoClock(n.At) + "  " + s.painting(colour, mark+" "+n.Text)
}

// demoClock is right-aligned seconds.
func demoClock(d time.Duration) string { return fmt.Sprintf("%6.1fs", d.Seconds()) }

// painting returns text in a colour, where colours are welcome.
func (s *demoShow) painting(colour, text string) string {
	if !s.colour || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// paint writes the block over the one before, in one go so that it does not
// flicker. The cursor stays below it, where it belongs at the end.
func (s *demoShow) paint() {
	width := 80
	if f, ok := s.out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	var b strings.Builder
	if s.painted > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.painted)
	}
	lines := s.block()
	for _, line := range lines {
		b.WriteString("\r" + clip(line, width-1) + "\x1b[K\n")
	}
	b.WriteString("\x1b[J") // the ^C of an interrupt
	s.painted = len(lines)
	_, _ = io.WriteString(s.out, b.String())
}

// block is what a terminal shows: always the same number of lines.
func (s *demoShow) block() []string {
	m := s.now
	was := m
	if len(s.before) > 0 {
		was = s.before[0]
	}
	since := (m.At - was.At).Seconds()
	perSecond := func(is, before uint64) string {
		if since <= 0 || is < before {
			return ""
		}
		return rate(float64(is-before) / since)
	}
	link := s.painting("32", "the link is up")
	if !m.Up {
		link = s.painting("31", "the link is down")
	}
	commit := ""
	if m.Commit > 0 {
		commit = "on disk within " + short(m.Commit)
	}
	lines := []string{
		fmt.Sprintf("%s of %s   %s, %d boards connected", demoClock(m.At), short(s.length), link, m.Connected),
		"",
		fmt.Sprintf("  acknowledged to sensors  %8s  %-8s %s", count(m.Acknowledged), perSecond(m.Acknowledged, was.Acknowledged), commit),
		fmt.Sprintf("  results of rules         %8s  %s alerts, %s averages", count(m.Alerts+m.Averages), count(m.Alerts), count(m.Averages)),
		fmt.Sprintf("  in the cloud             %8s  %s", count(m.Delivered), perSecond(m.Delivered, was.Delivered)),
		fmt.Sprintf("  waiting for the cloud    %8s  %s", count(m.Backlog), demoBar(m.Backlog, m.Peak)),
		"",
	}
	for i := range demoNews {
		if i < len(s.news) {
			lines = append(lines, s.line(s.news[i]))
		} else {
			lines = append(lines, "")
		}
	}
	return lines
}

// demoBar draws a backlog against the largest one.
func demoBar(n, peak uint64) string {
	const width = 30
	return strings.Repeat("#", int(n*width/max(peak, n, width)))
}

// clip cuts a line to so many columns; colours take none.
func clip(line string, width int) string {
	var b strings.Builder
	columns, escape := 0, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		case columns >= width:
			continue
		default:
			columns++
		}
		b.WriteRune(r)
	}
	return b.String()
}
