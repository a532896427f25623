package main

import (
	"strings"
	"testing"
	"time"

	"holdfast/gateway/demo"
)

func TestTheBlockOfTheDemonstrationKeepsItsHeightAndWidth(t *testing.T) {
	s := &demoShow{length: 30 * time.Second, colour: true}
	height := len(s.block())
	if height > 12 {
		t.Errorf("the block has %d lines, more than a small terminal has to spare", height)
	}
	s.live, s.out = true, &strings.Builder{}
	for i := range 20 {
		s.tell(demo.News{At: time.Duration(i) * time.Second, Kind: demo.LinkDown, Text: strings.Repeat("far too long ", 20)})
		s.look(demo.Moment{At: time.Duration(i) * time.Second, Backlog: uint64(i), Peak: uint64(i), Acknowledged: uint64(100 * i)})
		if n := len(s.block()); n != height {
			t.Fatalf("the block has %d lines, then %d", height, n)
		}
	}
	for _, line := range s.block() {
		line = clip(line, 79)
		plain := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(line)
		if n := len([]rune(plain)); n > 79 || strings.Contains(plain, "\x1b") {
			t.Errorf("%d columns: %q", n, line)
		}
		if strings.Count(line, "\x1b[3") != strings.Count(line, "\x1b[0m") {
			t.Errorf("a colour does not end: %q", line)
		}
	}
	if all := strings.Join(s.block(), "\n"); !strings.Contains(all, "1,900  100/s") {
		t.Errorf("no rate in\n%s", all)
	}
}

func TestWithoutATerminalTheDemonstrationWritesPlainLines(t *testing.T) {
	var out strings.Builder
	s := newDemoShow(&out, time.Minute)
	s.look(demo.Moment{At: 1500 * time.Millisecond, Acknowledged: 1234, Alerts: 1, Delivered: 1000, Backlog: 234})
	s.tell(demo.News{At: 2 * time.Second, Kind: demo.Alert, Text: "overheated: boiler-1"})
	want := "   1.5s  1,234 in    1 alerts  1,000 in the cloud   234 waiting  link down\n" +
		"   2.0s  !! overheated: boiler-1\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTheLastLineSaysWhetherTheLedgerBalances(t *testing.T) {
	for _, c := range []struct {
		name   string
		report demo.Report
		want   string
	}{
		{
			"all is well", demo.Report{Acknowledged: 1234, Logged: 1234},
			"ledger balances: 1,234 events acknowledged to the sensors, 1,234 in the log, 0 + 0 results delivered, 0 lost\n",
		},
		{
			"wills and what boards sent again", demo.Report{Acknowledged: 7, Wills: 1, Logged: 10},
			"acknowledged to the sensors + 1 last will + 2 sent twice, 10 in the log",
		},
		{
			"something is missing", demo.Report{Acknowledged: 8, Logged: 7, Lost: 1, Faults: []string{"one is missing"}},
			"  ! one is missing\nledger does not balance: 8 events acknowledged to the sensors, 7 in the log, 0 + 0 results delivered, 1 lost\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			writeDemoReport(&out, &c.report)
			if got := out.String(); !strings.Contains(got, c.want) {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}
