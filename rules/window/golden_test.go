package window

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"holdfast/gateway/event"
)

var update = flag.Bool("update", false, "write the panes of testdata/*.txtar anew")

// A case is a file: the window and its aggregates, what happens, and the panes
// that come of it. Adding one touches no Go.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil || len(ar.Files) != 3 {
				t.Fatalf("%s must have window, steps and panes: %v", file, err)
			}
			got := play(t, string(ar.Files[0].Data), string(ar.Files[1].Data))
			if *update {
				ar.Files[2].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(ar.Files[2].Data); got != want {
				t.Errorf("got\n%swant\n%s(-update accepts it)", got, want)
			}
		})
	}
}

// Every function stands in a case.
func TestEveryFunctionHasAGoldenCase(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	used := map[string]bool{}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(ar.Files[0].Data)) {
			for _, word := range strings.Fields(line) {
				used[word] = true
			}
		}
	}
	for _, f := range Functions {
		if !used[f.Name] {
			t.Errorf("%s stands in no case", f.Name)
		}
		if f.Doc == "" || !strings.HasSuffix(f.Doc, ".") {
			t.Errorf("the doc of %s is no sentence: %q", f.Name, f.Doc)
		}
	}
}

func play(t *testing.T, setup, steps string) string {
	cfg := Config{}
	var aggs []Aggregate
	duration := func(s string) time.Duration {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	number := func(s string) float64 {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for line := range strings.Lines(setup) {
		w := strings.Fields(line)
		switch w[0] {
		case "tumbling":
			cfg.Assign = Tumbling{duration(w[1])}
		case "hopping":
			cfg.Assign = Hopping{duration(w[1]), duration(w[2])}
		case "sliding":
			cfg.Assign = Sliding{duration(w[1])}
		case "session":
			cfg.Assign = Session{duration(w[1])}
		case "count":
			cfg.Assign = Count{int(number(w[1]))}
		case "state":
			cfg.Assign = State{}
		case "expire":
			cfg.Expire = duration(w[1])
		case "max_keys":
			cfg.MaxKeys = int(number(w[1]))
		case "max_rows":
			cfg.MaxRows = int(number(w[1]))
		case "in_order":
			cfg.InOrder = true
		case "aggregate":
			f, ok := Lookup(w[1])
			if !ok {
				t.Fatalf("no function %q", w[1])
			}
			a := Aggregate{Func: f}
			for _, p := range w[2:] {
				a.Params = append(a.Params, number(p))
			}
			aggs = append(aggs, a)
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	w := newWindow(t, cfg, aggs)
	var b strings.Builder
	offset := uint64(0)
	for line := range strings.Lines(steps) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		var panes []Pane
		var err error
		switch words[0] {
		case "advance":
			panes = w.Advance(nil, event.Time(duration(words[1])))
		case "early":
			panes = w.Early(nil)
		case "flush":
			panes = w.Flush(nil)
		case "restore":
			state := w.AppendState(nil)
			w = newWindow(t, cfg, aggs)
			if err := w.RestoreState(state); err != nil {
				t.Fatal(err)
			}
		default: // time key value [holds]
			offset++
			row := Row{Key: words[1], Time: event.Time(duration(words[0])), Offset: offset, Holds: len(words) > 3}
			var v any
			if err := json.Unmarshal([]byte(words[2]), &v); err != nil {
				t.Fatal(err)
			}
			switch v := v.(type) {
			case float64:
				row.Values = append(row.Values, Num(v))
			case string:
				row.Values = append(row.Values, Str(v))
			case bool:
				row.Values = append(row.Values, Truth(v))
			default:
				row.Values = append(row.Values, Value{})
			}
			panes, err = w.Add(nil, row)
		}
		if len(panes) > 0 || err != nil {
			fmt.Fprintf(&b, "%s\n", strings.TrimSpace(line))
		}
		if err != nil {
			fmt.Fprintf(&b, "  %v (late: %v)\n", err, errors.Is(err, ErrLate))
		}
		for _, p := range panes {
			fmt.Fprintf(&b, "  %s [%v, %v) %d rows to %d", p.Key, time.Duration(p.Start), time.Duration(p.End), p.Rows, p.Offset)
			if p.Early {
				b.WriteString(" early")
			}
			if p.Expired {
				b.WriteString(" expired")
			}
			b.WriteString("\n")
			for i, v := range p.Values {
				text, err := json.Marshal(rounded(v.Any()))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "    %s%v = %s\n", aggs[i].Func.Name, aggs[i].Params, text)
			}
		}
	}
	return b.String()
}

// rounded gives up the digits in which processors differ.
func rounded(v any) any {
	switch v := v.(type) {
	case float64:
		f, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 12, 64), 64)
		return f
	case []any:
		for i := range v {
			v[i] = rounded(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = rounded(v[k])
		}
	}
	return v
}
