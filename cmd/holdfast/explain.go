package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/rules"
)

func explainCommand() *cobra.Command {
	var files configFlag
	var paths []string
	var at, stream, payload string
	var all bool
	ev := event.Event{Source: "mqtt"}
	cmd := &cobra.Command{
		Use:   "explain TOPIC [PAYLOAD-FILE|-]",
		Short: "Show what each rule makes of an event, and why",
		Long: `Show what the rules make of an event: which of them read it, what each part of
their expressions comes to, and what would come out, now and when time passes.
Nothing is sent, and no gateway is asked: the rules have seen nothing before.

The rules are those of the configuration, or of files with rules.`,
		Example: `  holdfast explain plant/boiler/temperature payload.json
  echo 93.5 | holdfast explain plant/boiler/temperature - --rules rules/boiler.yaml
  holdfast explain plant/boiler/temperature --payload '{"value": 93.5}' --all`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ev.Topic = args[0]
			if err := event.CheckTopic(ev.Topic); err != nil {
				return &usageError{err}
			}
			now := time.Now()
			if at != "" {
				var err error
				if now, err = time.Parse(time.RFC3339Nano, at); err != nil {
					return usagef("--at %s is not a time such as 2026-01-01T06:00:00Z", at)
				}
			}
			ev.Received = event.At(now)
			var err error
			if ev.Payload, err = payloadOf(cmd, args[1:], payload); err != nil {
				return err
			}
			set, err := explained(&files, paths)
			if err != nil {
				return err
			}
			if set == nil {
				return fmt.Errorf("there are no rules in %s", strings.Join(files.files(), ", "))
			}
			x := explainer{w: cmd.OutOrStdout(), all: all}
			x.print(stream, ev, set.Explain(stream, ev))
			return nil
		},
	}
	files.register(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&paths, "rules", nil, "`FILE` with rules to use instead of a configuration, may be repeated")
	f.StringVar(&payload, "payload", "", "payload as `TEXT` instead of from a file")
	f.StringVar(&stream, "stream", rules.EventsStream, "`STREAM` that the event comes into")
	f.StringVar(&ev.Client, "client", "", "client that has sent the event, `ID`")
	f.StringVar(&ev.ContentType, "content-type", "", "content type of the payload, `TYPE`")
	f.StringVar(&at, "at", "", "`TIME` at which the event is received (default: now)")
	f.BoolVarP(&all, "all", "a", false, "show the rules that do not read the event too")
	cmd.MarkFlagsMutuallyExclusive("config", "rules")
	return cmd
}

// maxPayload is what the broker takes at most.
const maxPayload = 4 << 20

func payloadOf(cmd *cobra.Command, args []string, text string) ([]byte, error) {
	given := cmd.Flags().Changed("payload")
	switch {
	case given && len(args) > 0:
		return nil, usagef("give a file or --payload, not both")
	case given:
		return []byte(text), nil
	case len(args) == 0:
		return nil, usagef("give a file with the payload, - for standard input, or --payload")
	}
	in := cmd.InOrStdin()
	if args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, fmt.Errorf("read the payload: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPayload))
	if err != nil {
		return nil, fmt.Errorf("read the payload: %w", err)
	}
	return b, nil
}

// explained are the rules of the command line.
func explained(files *configFlag, paths []string) (*rules.Set, error) {
	if len(paths) == 0 {
		return rulesOf(files.files()...)
	}
	var errs config.Errors
	var sections []*config.Section
	for _, path := range paths {
		file, err := config.Load(path)
		errs.Add(err)
		if file != nil {
			sections = append(sections, rules.Sections(file)...)
		}
	}
	set, err := rules.Compile(sections)
	errs.Add(err)
	return set, errs.Err()
}

// explainer writes explanations for people.
type explainer struct {
	w   io.Writer
	all bool
}

func (x *explainer) printf(format string, args ...any) { fmt.Fprintf(x.w, format, args...) }

func (x *explainer) print(stream string, ev event.Event, rules []rules.Explanation) {
	x.printf("%s into the stream %s\n%s\n", ev.Topic, stream, shownPayload(ev.Payload))
	readings, others := 0, 0
	for _, r := range rules {
		for _, e := range r.Evaluations {
			readings = max(readings, e.Reading)
		}
	}
	if readings > 1 {
		x.printf("%d readings, each of which counts as an event of its own\n", readings)
	}
	for _, r := range rules {
		if !r.Selected && !x.all {
			others++
			continue
		}
		x.rule(&r, readings > 1)
	}
	switch {
	case others == 1:
		x.printf("\n1 rule does not read this event; --all shows it\n")
	case others > 1:
		x.printf("\n%d rules do not read this event; --all shows them\n", others)
	}
}

// rule writes what a rule makes of the event, or of each of its readings.
func (x *explainer) rule(r *rules.Explanation, readings bool) {
	x.printf("\n%s (%v)\n", r.Rule.Name, r.Rule.Pos)
	if !r.Selected {
		x.printf("  from %s: does not read this event\n", source(r.Rule))
		return
	}
	x.printf("  from %s: matches\n", source(r.Rule))
	events, comes := 0, false
	for _, e := range r.Evaluations {
		if e.Event.Topic != "" {
			events++
		}
		comes = comes || len(e.Outputs) > 0 || e.Err != nil
	}
	for _, e := range r.Evaluations {
		depth := 1
		if head := heading(&e, r.Rule.Reads, readings, events > 1); head != "" {
			x.printf("  %s\n", head)
			depth++
		}
		x.evaluation(&e, depth)
	}
	if !comes {
		x.printf("  => nothing comes out\n")
	}
}

// heading says what an evaluation is about, where that is not the event itself.
func heading(e *rules.Evaluation, reads string, readings, several bool) string {
	switch {
	case e.Pane != nil:
		what := "when the window"
		if e.Pane.Key != "" {
			what += " of " + e.Pane.Key
		}
		return fmt.Sprintf("%s from %s to %s closes:", what, e.Pane.Start, e.Pane.End)
	case e.Event.Topic == "" || !readings && !several:
		return ""
	case reads != "" || !readings:
		return fmt.Sprintf("%s %s", e.Event.Topic, shownPayload(e.Event.Payload))
	}
	return fmt.Sprintf("reading %d: %s", e.Reading, shownPayload(e.Event.Payload))
}

func (x *explainer) evaluation(e *rules.Evaluation, depth int) {
	indent := strings.Repeat("  ", depth)
	for _, v := range e.Expressions {
		x.value(v, depth, true)
	}
	if e.Err != nil {
		x.printf("%s=> fails: %v\n%s   the event becomes a dead letter of this rule\n", indent, e.Err, indent)
	}
	when := "comes out"
	if e.Later {
		when += " later, with this event alone"
	}
	for _, o := range e.Outputs {
		x.printf("%s=> %s: stream %s, topic %s\n", indent, when, o.Stream, o.Event.Topic)
		if o.Event.Key != "" {
			x.printf("%s   key %s\n", indent, o.Event.Key)
		}
		x.printf("%s   %s\n", indent, shownPayload(o.Event.Payload))
	}
}

// source says where a rule reads.
func source(r rules.Rule) string {
	from := strings.Join(r.Filters, ", ")
	switch {
	case r.Timer != "":
		return "the timer " + r.Timer
	case r.Reads != "":
		return from + " of the rule " + r.Reads
	case r.Stream != rules.EventsStream:
		return from + " of the stream " + r.Stream
	}
	return from
}

func reached(parts []rules.Value) bool {
	for _, p := range parts {
		if p.Reached || reached(p.Parts) {
			return true
		}
	}
	return false
}

// value writes an expression, and its parts below it.
func (x *explainer) value(v rules.Value, depth int, whole bool) {
	indent := strings.Repeat("  ", depth)
	text := v.Text
	if v.What != "" {
		text = v.What + ": " + text
	}
	state := "= " + shorten(v.Show())
	switch {
	case v.Reached:
	case whole || reached(v.Parts):
		state = "has no result"
	default:
		state = "not reached"
	}
	x.printf("%s%-*s  %s\n", indent, max(1, 50-len(indent)), text, state)
	for _, p := range v.Parts {
		x.value(p, depth+1, false)
	}
}

func shorten(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// shownPayload is a payload as text, if it is text.
func shownPayload(b []byte) string {
	if !utf8.Valid(b) {
		return fmt.Sprintf("%d bytes that are no text", len(b))
	}
	return shorten(strings.TrimSpace(string(b)))
}
