package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"holdfast/devices"
	"holdfast/devices/bme280"
	"holdfast/devices/bus"
	"holdfast/devices/gpio"
	"holdfast/devices/input"
	"holdfast/devices/output"
	"holdfast/devices/registers"
	"holdfast/devices/sim"
	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/gateway/forward"
)

// longest is how long a test waits for what must happen: so long that a slow
// machine is not taken for one that hangs.
const longest = time.Minute

// memory is a kind of sink that keeps what it is sent, and fails on order.
type memory struct {
	mu     sync.Mutex
	events map[string][]event.Event // by stream
	more   chan struct{}
	fail   func(forward.Batch) error
	boards *sim.Boards  // what the gateway's devices are wired to
	lines  gpio.Lines   // of the boards
	commit func() error // called before each commit; nil: nothing is
}

func newMemory() *memory {
	boards := new(sim.Boards)
	return &memory{events: map[string][]event.Event{}, more: make(chan struct{}, 1), boards: boards, lines: &boards.GPIO}
}

func (m *memory) Send(_ context.Context, b forward.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(b); err != nil {
			return err
		}
	}
	m.events[b.Stream] = append(m.events[b.Stream], b.Events...)
	select {
	case m.more <- struct{}{}:
	default:
	}
	return nil
}

func (m *memory) Close() error { return nil }

func (m *memory) kind() forward.Kind {
	return forward.Kind{Name: "memory", New: func(*config.Section) (forward.Sink, error) { return m, nil }}
}

// await returns the events of a stream once there are n.
func (m *memory) await(t *testing.T, stream string, n int) []event.Event {
	t.Helper()
	deadline := time.After(longest)
	for {
		m.mu.Lock()
		got := m.events[stream]
		m.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-m.more:
		case <-deadline:
			t.Fatalf("%d events of stream %s arrived, want %d", len(got), stream, n)
		}
	}
}

// testParts are what configurations of tests can name.
func testParts(sink *memory) Parts {
	return Parts{
		Sinks: []forward.Kind{sink.kind()}, Drivers: []devices.Driver{bme280.Driver, output.Driver, input.Driver, registers.Driver},
		Buses: bus.Buses{Simulated: sink.boards.Open, SimulatedLines: sink.lines},
	}
}

// run starts a gateway with the configuration; stop ends it.
func run(t *testing.T, dir, text string, sink *memory) (g *Gateway, stop func()) {
	t.Helper()
	// The path of a socket may be 107 bytes long; test folders are longer.
	runtime, err := os.MkdirTemp("", "hf") //nolint:usetesting // the folder of t.TempDir is too long as well
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(runtime) })
	t.Setenv("RUNTIME_DIRECTORY", runtime)
	path := filepath.Join(dir, "holdfast.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("gateway: test\nstore: {path: store}\nmqtt: {listen: 127.0.0.1:0}\nhttp: {listen: off}\n" + text)
	load := func() (*Config, error) {
		return Load([]string{path}, testParts(sink))
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	g, err = New(cfg, Options{Load: load, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), onCommit: sink.commit})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the gateway ended with %v", err)
			}
		})
	}
	t.Cleanup(stop)
	select {
	case <-g.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return g, stop
}

func client(t *testing.T, g *Gateway, id string) paho.Client {
	t.Helper()
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + g.broker.Addrs()[0].String()).
		SetClientID(id).SetAutoReconnect(false))
	wait(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func wait(t *testing.T, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(longest) {
		t.Fatal("no answer from the broker")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

const hotRule = `
rules:
  - {name: hot, from: plant/+/temp, where: temperature > 80, emit: {stream: alerts, topic: alerts/hot}}
destinations:
  cloud: {type: memory, from: [events, alerts], start: oldest, batch: {linger: 1ms}}
`

func TestASensorsEventReachesTheDestinationAndTheRuleFlagsIt(t *testing.T) {
	sink := newMemory()
	g, stop := run(t, t.TempDir(), hotRule, sink)
	heard := make(chan paho.Message, 10)
	wait(t, client(t, g, "panel").Subscribe("alerts/#", 1, func(_ paho.Client, m paho.Message) { heard <- m }))
	sensor := client(t, g, "sensor")
	for i := range 100 {
		wait(t, sensor.Publish("plant/1/temp", 1, false, fmt.Sprintf(`{"temperature":%d}`, i)))
	}
	events := sink.await(t, "events", 100)
	for i, e := range events {
		if e.Offset != uint64(i+1) || e.Client != "sensor" || string(e.Payload) != fmt.Sprintf(`{"temperature":%d}`, i) {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
	alerts := sink.await(t, "alerts", 19)
	if string(alerts[0].Payload) != `{"temperature":81}` || alerts[0].Cause == nil || alerts[0].Cause.Offset != 82 {
		t.Errorf("the first alert is %+v", alerts[0])
	}
	if m := <-heard; m.Topic() != "alerts/hot" {
		t.Errorf("the subscriber heard %s", m.Topic())
	}
	st := g.Status()
	for _, d := range st.Destinations {
		if !d.Ledger.Balanced() {
			t.Errorf("the ledger of %s in %s does not balance: %+v", d.Name, d.Stream, d.Ledger)
		}
	}
	stop()
}

func TestTheBacklogWaitsForTheDestinationThroughARestart(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	sink.fail = func(forward.Batch) error { return fmt.Errorf("the cloud is away") }
	g, stop := run(t, dir, hotRule, sink)
	sensor := client(t, g, "sensor")
	for i := range 50 {
		wait(t, sensor.Publish("plant/1/temp", 1, false, fmt.Sprint(i)))
	}
	stop()
	sink = newMemory()
	g, stop = run(t, dir, hotRule, sink)
	for i, e := range sink.await(t, "events", 50) {
		if string(e.Payload) != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, e.Payload)
		}
	}
	if st := g.Status(); st.Destinations[1].Stream != "events" || st.Destinations[1].Ledger.Appended != 50 {
		t.Errorf("status %+v", st.Destinations)
	}
	stop()
}

func TestReloadChangesRulesAndDestinationsAndKeepsClientsConnected(t *testing.T) {
	dir, sink := t.TempDir(), newMemory()
	g, stop := run(t, dir, hotRule, sink)
	defer stop()
	sensor := client(t, g, "sensor")
	wait(t, sensor.Publish("plant/1/temp", 1, false, `{"temperature":50}`))
	sink.await(t, "events", 1)

	path := filepath.Join(dir, "holdfast.yaml")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(string(good), "temperature > 80", "temperature > > 80", 1)
	if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "holdfast.yaml:7:58:") {
		t.Errorf("a configuration with a mistake was answered by: %v", err)
	}
	wait(t, sensor.Publish("plant/1/temp", 1, false, `{"temperature":81}`))
	sink.await(t, "alerts", 1)

	lower := strings.Replace(string(good), "temperature > 80", "temperature > 40", 1)
	if err := os.WriteFile(path, []byte(lower), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, sensor.Publish("plant/1/temp", 1, false, `{"temperature":50}`))
	sink.await(t, "alerts", 2)
	if !sensor.IsConnected() {
		t.Error("the reload disconnected a client")
	}
}

func TestADevicesReadingsAreEventsLikeAnyOther(t *testing.T) {
	sink := newMemory()
	_, stop := run(t, t.TempDir(), `
devices:
  weather: {driver: bme280, bus: "sim:roof", address: 0x76, interval: 20ms}
rules:
  - {name: warm, from: devices/weather/temperature, where: value > -40, emit: {stream: alerts, topic: alerts/warm}}
destinations:
  cloud: {type: memory, from: [events, alerts], start: oldest, batch: {linger: 1ms}}
`, sink)
	defer stop()
	e := sink.await(t, "alerts", 3)[2]
	if e.Cause == nil || e.Source != "rule" {
		t.Errorf("the alert is %+v", e)
	}
	topics := map[string]bool{}
	for _, e := range sink.await(t, "events", 10) {
		topics[e.Topic] = e.Source == "device" && e.Client == "weather"
	}
	for _, reading := range []string{"temperature", "pressure", "humidity", "status"} {
		if !topics["devices/weather/"+reading] {
			t.Errorf("no %s among %v", reading, topics)
		}
	}
}

func TestAStopAcknowledgesWhatWasTaken(t *testing.T) {
	for range 5 {
		g, stop := run(t, t.TempDir(), "", newMemory())
		sensor, err := net.Dial("tcp", g.broker.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer sensor.Close()
		if _, err := sensor.Write([]byte("\x10\x12\x00\x04MQTT\x04\x02\x00\x00\x00\x06sensor")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(sensor, make([]byte, 4)); err != nil { // CONNACK
			t.Fatal(err)
		}
		for i := range byte(50) { // at QoS 1
			if _, err := sensor.Write([]byte{0x32, 7, 0, 1, 't', 0, i + 1, 'x', 'y'}); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		answers, err := io.ReadAll(sensor) // until the gateway closes
		if err != nil {
			t.Fatal(err)
		}
		acknowledged := uint64(bytes.Count(answers, []byte{0x40, 2, 0}))
		if _, stored, _ := g.log.Stream("events").Bounds(); stored-1 != acknowledged || len(answers) != 4*int(acknowledged) {
			t.Errorf("%d messages were stored and %d acknowledged: the others will be sent again", stored-1, acknowledged)
		}
	}
}
