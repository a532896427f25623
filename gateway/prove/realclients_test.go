//go:build prove

package prove

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRealClientsPublishSubscribeAndReachAnHTTPReceiverThroughARule(t *testing.T) {
	needTools(t, "mosquitto_pub", "mosquitto_sub")
	r := newReceiver(t)
	if err := r.up(); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, "", `
streams: {events: {max: 64MiB, keep: 1h}, alerts: {max: 16MiB, keep: 1h}}
rules:
  - {name: hot, from: plant/+/temp, where: "temperature > 80", emit: {stream: alerts, topic: alerts/hot}}
destinations:
  cloud: {type: http, url: "`+r.url()+`", from: [alerts], start: oldest, batch: {events: 500, bytes: 256KiB, linger: 20ms}}
`)
	g.mustStart(t)
	const messages = 20
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for qos := range 3 {
			name := fmt.Sprintf("%s QoS %d", version, qos)
			t.Run(name, func(t *testing.T) {
				device := fmt.Sprintf("%s-%d", version, qos)
				topic := "plant/" + device + "/temp"
				readings := subscribe(t, g, version, qos, topic, messages)
				alerts := subscribe(t, g, version, qos, "alerts/#", messages/2)
				var lines []string
				for n := range messages {
					lines = append(lines, fmt.Sprintf(`{"device":%q,"n":%d,"temperature":%d}`, device, n, 70+n%2*20))
				}
				pub := exec.Command("mosquitto_pub", append(clientArgs(g, version, qos), "-t", topic, "-l")...)
				pub.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
				if out, err := pub.CombinedOutput(); err != nil {
					t.Fatalf("mosquitto_pub: %v\n%s", err, out)
				}
				if got := readings(); !slices.Equal(got, lines) {
					t.Errorf("a subscriber got %d lines\n%s\nwant %d", len(got), strings.Join(got, "\n"), len(lines))
				}
				var hot []int
				for n := 1; n < messages; n += 2 {
					hot = append(hot, n)
				}
				if got := numbers(t, device, alerts()); !slices.Equal(got, hot) {
					t.Errorf("a subscriber of the rule's topic got messages %v, want %v", got, hot)
				}
				delivered := func() []int {
					_, others := r.snapshot()
					var lines []string
					for _, i := range others {
						lines = append(lines, string(i.Data))
					}
					return numbers(t, device, lines)
				}
				eventually(t, 10*time.Second, func() bool { return len(delivered()) >= len(hot) }, "the alerts of %s reach the receiver", device)
				if got := delivered(); !slices.Equal(got, hot) {
					t.Errorf("the receiver got messages %v, want %v", got, hot)
				}
			})
		}
	}
	g.checkLedgers(t)
	g.mustStop(t)
	t.Logf("mosquitto_pub and mosquitto_sub at QoS 0, 1 and 2 in MQTT 3.1.1 and 5: all messages in order at subscribers, those of the rule also at the HTTP receiver")
}

func clientArgs(g *process, version string, qos int) []string {
	host, port, _ := strings.Cut(g.mqtt, ":")
	return []string{"-h", host, "-p", port, "-V", version, "-q", strconv.Itoa(qos)}
}

// subscribe starts mosquitto_sub, waits until it has subscribed, and returns a
// function that returns the payloads of n messages once they have come.
func subscribe(t *testing.T, g *process, version string, qos int, filter string, n int) func() []string {
	t.Helper()
	// Its output is buffered by the block when nobody watches.
	cmd := exec.Command("stdbuf", append(append([]string{"-oL", "mosquitto_sub"}, clientArgs(g, version, qos)...), "-t", filter, "-C", strconv.Itoa(n), "-W", "20", "-d")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var payloads, all []string
	subscribed, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			switch line := lines.Text(); {
			case strings.HasPrefix(line, "Subscribed"):
				close(subscribed)
			case strings.HasPrefix(line, "{"):
				payloads = append(payloads, line)
			default:
				all = append(all, line)
			}
		}
	}()
	select {
	case <-subscribed:
	case <-done:
		t.Fatalf("mosquitto_sub -t %s ended:\n%s", filter, strings.Join(all, "\n"))
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		t.Fatalf("mosquitto_sub -t %s is not subscribed after 10 s", filter)
	}
	return func() []string {
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("mosquitto_sub -t %s: %v; it got %d messages of %d", filter, err, len(payloads), n)
		}
		return payloads
	}
}

// numbers returns the numbers of the device's messages among payloads.
func numbers(t testing.TB, device string, payloads []string) (all []int) {
	t.Helper()
	for _, p := range payloads {
		var v struct {
			Device string
			N      int
		}
		if err := json.Unmarshal([]byte(p), &v); err != nil {
			t.Errorf("payload %s: %v", p, err)
		}
		if v.Device == device {
			all = append(all, v.N)
		}
	}
	return all
}
