//go:build prove

package prove

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAReplayGoesOnAfterKillsAndLeavesTheLedgerAlone(t *testing.T) {
	const events, kills = 4000, 5
	var mu sync.Mutex
	live, replayed := map[uint64]int{}, map[uint64]int{}
	r := newDrain(t, 1<<62)
	r.look = func(body []byte, _ time.Time) {
		mu.Lock()
		defer mu.Unlock()
		for line := range bytes.Lines(body) {
			var i struct {
				Offset uint64
				Replay bool
			}
			if err := json.Unmarshal(line, &i); err != nil {
				continue // cut off by a kill, and not answered
			}
			if i.Replay {
				replayed[i.Offset]++
			} else {
				live[i.Offset]++
			}
		}
	}
	r.up(t)
	g := newGateway(t, "", `
destinations:
  cloud: {type: http, url: "`+r.url()+`", from: [events], start: oldest, retry: {min: 50ms, max: 200ms}}
`)
	g.mustStart(t)
	f := publish(2, func(i int) *publisher {
		return &publisher{addr: g.mqtt, number: i, window: 200, total: events / 2, version: 4}
	})
	if err := f.wait(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	waitForLag0(t, g, 20*time.Second)
	replay := func(args ...string) string {
		return command(t, g.bin, append([]string{"replay", "--config", g.configPath()}, args...)...)
	}
	replay("--from", "0", "--rate", "1000", "--to-destination", "cloud")
	for range kills {
		time.Sleep(400 * time.Millisecond)
		g.kill()
		g.mustStart(t)
	}
	eventually(t, 60*time.Second, func() bool {
		out, err := exec.Command(g.bin, "replay", "list", "--config", g.configPath()).CombinedOutput()
		return err == nil && strings.Contains(string(out), "1       done")
	}, "the replay ends")
	mu.Lock()
	defer mu.Unlock()
	again := 0
	for o := uint64(1); o <= events; o++ {
		if replayed[o] == 0 || live[o] == 0 {
			t.Errorf("event %d was delivered %d times and replayed %d times", o, live[o], replayed[o])
		}
		again += replayed[o]
	}
	g.checkLedgers(t)
	for _, d := range g.status(t).Destinations {
		if d.Name == "cloud" && d.Ledger.Delivered != events {
			t.Errorf("the ledger says %+v", d.Ledger)
		}
	}
	t.Logf("a replay of %d events over %d kills: %d sent, all of them different ones or of the second before a kill", events, kills, again)
}
