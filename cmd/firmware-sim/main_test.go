package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sim "holdfast/firmware-sim"
)

// command runs a command line and returns what it leaves behind. What runs until
// it is interrupted is, as soon as it has said something.
func command(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	ctx, interrupt := context.WithCancel(ctx)
	defer interrupt()
	var out bytes.Buffer
	log := interrupting{interrupt: interrupt}
	code = execute(ctx, args, &out, &log)
	return code, out.String(), log.String()
}

type interrupting struct {
	bytes.Buffer
	interrupt func()
}

func (b *interrupting) Write(p []byte) (int, error) {
	b.interrupt()
	return b.Buffer.Write(p)
}

func TestPrintIsNDJSONThatStaysTheSame(t *testing.T) {
	args := []string{"print", "--for", "10s", "--boards", "12", "--seed", "5"}
	code, first, stderr := command(t.Context(), args...)
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	boards := map[string]bool{}
	for line := range strings.Lines(first) {
		var m struct {
			Time    time.Time
			Board   string
			Topic   string
			Payload struct{ Seq int }
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Time.Sub(monday) >= 10*time.Second || m.Topic == "" {
			t.Errorf("line %s: %v", line, err)
		}
		boards[m.Board] = true
	}
	if len(boards) != 12 {
		t.Errorf("%d boards", len(boards))
	}
	if _, again, _ := command(t.Context(), args...); again != first {
		t.Error("the second print differs")
	}
}

func TestListNamesEveryKindAndScenario(t *testing.T) {
	code, stdout, _ := command(t.Context(), "list")
	if code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	for _, k := range sim.Kinds() {
		if !strings.Contains(stdout, "\n"+k.Name+" ") {
			t.Errorf("%s is missing", k.Name)
		}
	}
	for _, name := range sim.Examples() {
		if !strings.Contains(stdout, "\n"+name+" ") {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestMistakesHaveTheExitCodesOfHoldfast(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	if err := os.WriteFile(wrong, []byte("site: x\nbord: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args   []string
		code   int
		stderr string
	}{
		"unknown command":  {[]string{"rum"}, exitUsage, `unknown command "rum"`},
		"unknown flag":     {[]string{"run", "--fro", "1s"}, exitUsage, "unknown flag: --fro"},
		"speed":            {[]string{"run", "--speed", "0"}, exitUsage, "above 0"},
		"negative":         {[]string{"print", "--boards", "-1"}, exitUsage, "must not be negative"},
		"start":            {[]string{"print", "--start", "today"}, exitUsage, "give a time such as"},
		"scenario":         {[]string{"print", "--scenario", wrong}, exitScenario, `wrong.yaml:2: unknown key "bord"`},
		"no scenario":      {[]string{"print", "--scenario", "none.yaml"}, exitFailed, "none.yaml"},
		"broker":           {[]string{"run", "--broker", "localhost"}, exitFailed, "give tcp://"},
		"authorities":      {[]string{"run", "--ca", wrong}, exitFailed, "no PEM certificate"},
		"nobody answering": {[]string{"run", "--broker", "tcp://127.0.0.1:1", "--speed", "50"}, exitUnreachable, "broker not reachable"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := command(t.Context(), c.args...)
			if code != c.code || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit code %d, want %d: %s", code, c.code, stderr)
			}
		})
	}
}
