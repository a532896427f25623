//go:build prove

package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/rules"
	"holdfast/storage"
)

// history is what the log says that rules were given, and what it says that they
// made of it.
type history struct {
	inputs  []storage.Input
	covered uint64
	streams map[string][]event.Event
}

// look takes in what the log holds, while no gateway has it open.
func (h *history) look(cfg *Config) error {
	log, err := storage.Open(storage.Options{Dir: cfg.Store.Path, Gateway: cfg.Gateway, Logger: slog.New(slog.DiscardHandler), Streams: streamOptions(cfg)})
	if err != nil {
		return err
	}
	defer log.Close()
	_, covered, inputs, err := log.OpenProcessor(rules.EventsStream, 0)
	if err != nil {
		return err
	}
	h.covered = covered
	for _, in := range inputs {
		last := uint64(0)
		if n := len(h.inputs); n > 0 {
			last = h.inputs[n-1].Sequence
		}
		switch {
		case in.Sequence > last+1:
			return fmt.Errorf("the inputs between %d and %d were removed before anybody looked", last, in.Sequence)
		case in.Sequence == last+1:
			h.inputs = append(h.inputs, in)
		}
	}
	h.streams = map[string][]event.Event{}
	for _, name := range append(cfg.Rules.Outputs(), rules.EventsStream, streamDead) {
		r, next := log.Stream(name).Reader(false), uint64(1)
		for {
			all, err := r.Read(next, storage.ReadLimits{Events: 1000, Bytes: 1 << 20})
			if err != nil {
				return err
			}
			if len(all) == 0 {
				break
			}
			h.streams[name] = append(h.streams[name], slices.Clone(all)...)
			next = all[len(all)-1].Offset + 1
		}
	}
	return nil
}

// again is an undisturbed run over the same log.
func (h *history) again(set *rules.Set) (res rules.Result, err error) {
	tables, err := allLimits()
	if err != nil {
		return res, err
	}
	e := set.Engine(rules.EventsStream)
	inputs := h.inputs
	given := func(next uint64) error {
		for ; len(inputs) > 0 && inputs[0].After <= next; inputs = inputs[1:] {
			var in rules.Input
			if len(inputs[0].Data) > 0 {
				if err := json.Unmarshal(inputs[0].Data, &in); err != nil {
					return err
				}
			}
			in.Now = inputs[0].Now
			switch t := tables[in.Version]; {
			case in.Table == "":
				e.Apply(in, &res)
			case t == nil:
				return fmt.Errorf("the log names a version of the table %s that never was", in.Table)
			default:
				e.SetTable(t)
			}
		}
		return nil
	}
	for _, ev := range h.streams[rules.EventsStream] {
		if ev.Offset >= h.covered {
			break
		}
		if err := given(ev.Offset); err != nil {
			return res, err
		}
		e.Step([]event.Event{ev}, &res)
	}
	return res, given(h.covered)
}

// shown is all of an output that a user can see, but for its offset.
func shown(e *event.Event) string {
	after := uint64(0) // of a timer before the first event
	if e.Cause != nil {
		after = e.Cause.Offset
	}
	return fmt.Sprintf("%s %q %s qos %d after %d: %s", e.Topic, e.Key, e.Time, e.QoS, after, e.Payload)
}

// compare compares what the rules have put out with an undisturbed run over the
// same log, and returns how much each rule has put out.
func (h *history) compare(cfg *Config) (perRule map[string]int, err error) {
	if len(cfg.Rules.Inputs()) != 1 {
		return nil, fmt.Errorf("rules read %v: only one of them is run again", cfg.Rules.Inputs())
	}
	want, err := h.again(cfg.Rules)
	if err != nil {
		return nil, err
	}
	perRule = map[string]int{}
	for _, stream := range cfg.Rules.Outputs() {
		var run, undisturbed []string
		for i := range h.streams[stream] {
			run = append(run, shown(&h.streams[stream][i]))
		}
		for i := range want.Outputs {
			if o := &want.Outputs[i]; o.Stream == stream {
				undisturbed = append(undisturbed, shown(&o.Event))
				perRule[o.Rule]++
			}
		}
		for i := range max(len(run), len(undisturbed)) {
			if i >= len(run) || i >= len(undisturbed) || run[i] != undisturbed[i] {
				lines := func(all []string) string { return strings.Join(all[min(i, len(all)):min(i+5, len(all))], "\n") }
				err = errors.Join(err, fmt.Errorf("stream %s has %d events, an undisturbed run gives %d; from number %d on (-undisturbed +run):\n%s",
					stream, len(run), len(undisturbed), i+1, cmp.Diff(lines(undisturbed), lines(run))))
				break
			}
		}
	}
	if letters := len(h.streams[streamDead]); letters != len(want.Failures) {
		err = errors.Join(err, fmt.Errorf("%d dead letters, an undisturbed run gives %d", letters, len(want.Failures)))
	}
	return perRule, err
}

// tableChanges counts the versions of lookup tables in the log.
func (h *history) tableChanges() (n int) {
	for _, in := range h.inputs {
		if strings.Contains(string(in.Data), `"table"`) {
			n++
		}
	}
	return n
}
