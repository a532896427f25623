package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// reports returns what became of the commands to the pump, once there are n.
func reports(t *testing.T, sink *memory, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for _, e := range sink.await(t, "acks", n) {
		var r struct{ ID, State string }
		if err := json.Unmarshal(e.Payload, &r); err != nil || r.ID == "" || e.Cause == nil {
			t.Errorf("a report is %s, of %v", e.Payload, e.Cause)
		}
		count[r.State]++
	}
	return count
}

const pumpHouse = `
streams: {acks: {topics: [devices/+/ack]}}
destinations: {d: {type: memory, from: [acks], start: oldest, batch: {linger: 0s}}}
rules:
  - {name: too_full, from: tank, where: level > 0.9, emit: {stream: alerts, topic: devices/pump/set, fields: {value: "'on'"}}}
`

const withPump = pumpHouse + "devices: {pump: {driver: output, chip: sim:panel, line: 17}}\n"

func TestACommandComesFromAClientOrARuleAndIsReported(t *testing.T) {
	sink := newMemory()
	g, stop := run(t, t.TempDir(), withPump, sink)
	c := client(t, g, "tank")
	wait(t, c.Publish("tank", 1, false, `{"level": 0.95}`))
	if got := reports(t, sink, 1); got["done"] != 1 {
		t.Errorf("by the rule: %v", got)
	}
	wait(t, c.Publish("devices/pump/set", 1, false, `{"value": "off", "id": "a"}`))
	if got := reports(t, sink, 2); got["done"] != 2 {
		t.Errorf("by the client: %v", got)
	}
	wait(t, c.Publish("devices/pump/set", 1, false, `{"value": "on", "id": "a"}`))
	if got := reports(t, sink, 3); got["repeated"] != 1 {
		t.Errorf("the same id again: %v", got)
	}
	stop()
	if got := sink.boards.GPIO.Wire("sim:panel", "17").Driven(); !slices.Equal(got, []string{"0", "1", "0", "in"}) {
		t.Errorf("the line was driven to %v", got)
	}
}

func TestAfterAnOutageOneOfAThousandCommandsIsExecutedAndAllAreReported(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	_, stop := run(t, dir, withPump, sink)
	stop()

	// They come in while nobody reads them.
	g, stop := run(t, dir, pumpHouse, sink)
	c := client(t, g, "cloud")
	began := time.Now()
	var last interface{ Wait() bool }
	for i := range 1000 {
		given := began.Add(time.Duration(i-999) * 36 * time.Second)
		last = c.Publish("devices/pump/set", 1, false,
			fmt.Sprintf(`{"value": %q, "id": "c-%d", "time": %q, "ttl": "10m"}`, []string{"off", "on"}[i%2], i, given.Format(time.RFC3339Nano)))
	}
	last.Wait()
	stop()

	_, stop = run(t, dir, withPump, sink)
	got := reports(t, sink, 1000)
	stop()
	if got["done"] != 1 || got["done"]+got["expired"]+got["superseded"] != 1000 || got["superseded"] > 16 {
		t.Errorf("%v", got)
	}
	if got := sink.boards.GPIO.Wire("sim:panel", "17").Driven(); !slices.Equal(got, []string{"0", "in", "0", "1", "0", "in"}) {
		t.Errorf("the line was driven to %v", got)
	}

	// A restart executes and reports nothing again: the next report is of the next
	// command.
	g, stop = run(t, dir, withPump, sink)
	wait(t, client(t, g, "cloud").Publish("devices/pump/set", 1, false, `{"value": "off", "id": "next"}`))
	acks := sink.await(t, "acks", 1001)
	stop()
	if last := string(acks[1000].Payload); len(acks) != 1001 || !strings.Contains(last, `"id":"next"`) {
		t.Errorf("%d reports, the last is %s", len(acks), last)
	}
}
