package devices_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/devices/bme280"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/sim"
	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// bench is a set of devices at work on simulated boards.
type bench struct {
	*devicetest.Log
	*sim.Boards
	*devices.Set
}

// start runs devices. Beside the BME280 there is a driver for each function.
func start(t *testing.T, yaml string, drivers map[string]func(context.Context) ([]devices.Reading, error)) *bench {
	t.Helper()
	b := &bench{Log: new(devicetest.Log), Boards: new(sim.Boards)}
	list := []devices.Driver{bme280.Driver}
	for name, read := range drivers {
		list = append(list, sensorDriver(name, read))
	}
	var err error
	if b.Set, err = devicetest.Load(yaml, list, bus.Buses{Simulated: b.Open}); err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := b.Run(t.Context(), b.Emit); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(b.Close)
	return b
}

type read func(context.Context) ([]devices.Reading, error)

func (f read) Read(ctx context.Context) ([]devices.Reading, error) { return f(ctx) }

func sensorDriver(name string, f read) devices.Driver {
	return devices.Driver{Name: name, New: func(s *config.Section, _ *devices.Wiring) (devices.Source, error) {
		set := struct{ devices.Polling }{devices.Every(time.Second)}
		if err := s.Decode(&set); err != nil {
			return nil, err
		}
		return devices.Poll(set.Polling, func(context.Context) (devices.Sensor, error) { return f, nil }), nil
	}}
}

// counter counts its readings from 1.
func counter() read {
	n := 0.0
	return func(context.Context) ([]devices.Reading, error) {
		n++
		return []devices.Reading{{Name: "count", Value: n}}, nil
	}
}

func TestAReadingIsAnEventOfItsDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		b := start(t, "a:\n  driver: power\nb:\n  driver: power\n  topic: plant/boiler\n",
			map[string]func(context.Context) ([]devices.Reading, error){
				"power": func(context.Context) ([]devices.Reading, error) {
					time.Sleep(5 * time.Millisecond)
					return []devices.Reading{{Name: "channel/1", Value: 1e-7, Unit: "W"}, {Name: "count", Value: 12}}, nil
				},
			})
		time.Sleep(500 * time.Millisecond)
		want := []string{
			`devices/a/status {"state":"online"}`,
			`devices/a/channel/1 {"value":1e-7,"unit":"W"}`,
			`devices/a/count {"value":12}`,
		}
		if diff := cmp.Diff(want, b.Lines("devices/#")); diff != "" {
			t.Error(diff)
		}
		if got := b.Events("plant/boiler/+"); len(got) != 2 {
			t.Errorf("below the configured topic: %v", b.Lines("plant/#"))
		}
		wantEvent := event.Event{
			Time: event.At(began.Add(5 * time.Millisecond)), Topic: "devices/a/count", Source: "device", Client: "a",
			ContentType: "application/json", Payload: []byte(`{"value":12}`), QoS: 1,
		}
		if diff := cmp.Diff([]event.Event{wantEvent}, b.Events("devices/a/count")); diff != "" {
			t.Error(diff)
		}
		if e := b.Events("devices/a/status"); len(e) != 1 || !e[0].Retain {
			t.Errorf("the status is not retained: %+v", e)
		}
	})
}

const attic = `
attic: {driver: bme280, bus: sim:one, address: 0x76, interval: 1s}
cellar: {driver: bme280, bus: sim:one, address: 0x77, interval: 1s}
garden: {driver: bme280, bus: sim:two, interval: 1s}
`

func TestADeviceThatIsUnpluggedStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, attic, nil)
		time.Sleep(10500 * time.Millisecond)
		b.Bus("one").Unplug(0x76)
		time.Sleep(10 * time.Minute)
		if n := b.Bus("one").Transfers(); n > 4*610+200 {
			t.Errorf("%d transfers: the missing device is tried without pause", n)
		}
		for _, name := range []string{"cellar", "garden"} {
			if n := len(b.Events("devices/" + name + "/pressure")); n != 611 {
				t.Errorf("%s: %d readings in 610.5 s", name, n)
			}
		}
		status := b.Status()[0]
		if status.State != devices.Offline || status.Captured != 33 || !strings.Contains(status.Err, "no device acknowledged") {
			t.Errorf("%+v", status)
		}

		b.Bus("one").Plug(0x76, sim.NewBME280(sim.Daily(1)))
		time.Sleep(31 * time.Second)
		if status = b.Status()[0]; status.State != devices.Online || status.Err == "" {
			t.Errorf("plugged in again: %+v", status)
		}
		lines := b.Lines("devices/attic/status")
		if len(lines) != 3 || lines[0] != lines[2] || !strings.HasPrefix(lines[1], `devices/attic/status {"state":"offline","error":"`) {
			t.Errorf("status events:\n%s", strings.Join(lines, "\n"))
		}
	})
}

func TestADeviceThatIsMissingAtStartIsToldAndFoundLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, attic, nil)
		b.Bus("two").Unplug(0x76)
		synctest.Wait()
		if state := b.Status()[2].State; state != devices.Starting {
			t.Errorf("at once: %s", state)
		}
		time.Sleep(time.Second)
		if state := b.Status()[2].State; state != devices.Offline {
			t.Errorf("after a second: %s", state)
		}
		b.Bus("two").Plug(0x76, sim.NewBME280(sim.Daily(1)))
		time.Sleep(30 * time.Second)
		if state := b.Status()[2].State; state != devices.Online {
			t.Errorf("plugged in: %s", state)
		}
	})
}

func TestNoiseOnTheCableIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, attic, nil)
		for range 5 {
			time.Sleep(1500 * time.Millisecond)
			b.Bus("two").Break(0x76, sim.Times(1, sim.NACK))
		}
		time.Sleep(1500 * time.Millisecond)
		if lines := b.Lines("devices/garden/status"); len(lines) != 1 {
			t.Errorf("status events:\n%s", strings.Join(lines, "\n"))
		}
		if status := b.Status()[2]; status.Failures != 5 || status.Err == "" {
			t.Errorf("%+v", status)
		}
	})
}

func TestAStuckBusDelaysItsOwnDevicesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, attic, nil)
		time.Sleep(1500 * time.Millisecond)
		b.Bus("one").Break(0x76, sim.Stall(3*time.Second))
		time.Sleep(20 * time.Second)
		all := b.Status()
		if all[2].Overruns != 0 || len(b.Events("devices/garden/pressure")) != 22 {
			t.Errorf("the other bus: %+v", all[2])
		}
		if all[1].State != devices.Online || all[1].Failures != 0 || all[1].Overruns == 0 {
			t.Errorf("the neighbour: %+v", all[1])
		}
		if all[0].State != devices.Offline || !strings.Contains(all[0].Err, "held low") {
			t.Errorf("the stuck device: %+v", all[0])
		}
	})
}

func TestSixtyFourSensorsAreReadInTimeBesideAStuckBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var yaml strings.Builder
		boards := new(sim.Boards)
		for i := range 64 {
			fmt.Fprintf(&yaml, "s%d: {driver: tmp102, bus: sim:%d, address: %d, interval: 100ms}\n", i, i%4, 0x10+i)
			boards.Bus(fmt.Sprint(i%4)).Plug(uint16(0x10+i), &tmp102Model{raw: uint16(i) << 4})
		}
		set, err := devicetest.Load(yaml.String(), []devices.Driver{tmp102}, bus.Buses{Simulated: boards.Open})
		if err != nil {
			t.Fatal(err)
		}
		log := new(devicetest.Log)
		slow := func(events []event.Event, done func(error)) error {
			time.Sleep(20 * time.Millisecond) // a commit
			return log.Emit(events, done)
		}
		go func() { _ = set.Run(t.Context(), slow) }()
		boards.Bus("3").Break(0x13, sim.Stall(time.Hour))
		time.Sleep(10050 * time.Millisecond)
		for i, s := range set.Status() {
			if i%4 != 3 && (s.Captured != 101 || s.Missed+s.Overruns+s.Failures > 0) {
				t.Errorf("%+v", s)
			}
		}
		boards.Bus("3").Break(0x13, nil)
		set.Close() // waits for the stalled transfer
	})
}

// hung is a bus whose transfers end only when it is let go.
type hung struct {
	i2c.BusCloser
	letGo chan struct{}
}

func (h hung) Tx(uint16, []byte, []byte) error {
	<-h.letGo
	return errors.New("let go")
}

func TestABusThatNeverAnswersIsReportedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		buses := bus.Buses{Simulated: func(name string) (i2c.BusCloser, error) { return hung{sim.NewBus(name), letGo}, nil }}
		set, err := devicetest.Load("a: {driver: bme280, bus: sim:x, timeout: 2s}", []devices.Driver{bme280.Driver}, buses)
		if err != nil {
			t.Fatal(err)
		}
		log := new(devicetest.Log)
		go func() { _ = set.Run(t.Context(), log.Emit) }()
		time.Sleep(5 * time.Second)
		if s := set.Status()[0]; s.State != devices.Offline || !strings.Contains(s.Err, "not done within 2s") {
			t.Errorf("%+v", s)
		}
		close(letGo)
		set.Close()
	})
}

// dock is where a USB adapter is plugged in; what was opened before it was
// unplugged is dead for ever.
type dock struct {
	board *sim.Bus

	mu      sync.Mutex
	present bool
	opened  int
}

type adapter struct {
	*sim.Bus
	dock *dock
	nth  int
}

func (d *dock) open(string) (i2c.BusCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.present {
		return nil, errors.New("plug the adapter in")
	}
	d.opened++
	return adapter{d.board, d, d.opened}, nil
}

func (d *dock) plug(in bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.present = in
	d.opened++
}

func (a adapter) Tx(addr uint16, w, r []byte) error {
	a.dock.mu.Lock()
	dead := a.nth != a.dock.opened
	a.dock.mu.Unlock()
	if dead {
		return errors.New("no such device")
	}
	return a.Bus.Tx(addr, w, r)
}

func TestAnAdapterMayBeUnpluggedAndPluggedInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dock{board: new(sim.Boards).Bus("usb"), present: true}
		set, err := devicetest.Load("a: {driver: bme280, bus: sim:usb, interval: 1s}",
			[]devices.Driver{bme280.Driver}, bus.Buses{Simulated: d.open})
		if err != nil {
			t.Fatal(err)
		}
		log := new(devicetest.Log)
		go func() { _ = set.Run(t.Context(), log.Emit) }()
		time.Sleep(1500 * time.Millisecond)
		d.plug(false)
		time.Sleep(10 * time.Second)
		if s := set.Status()[0]; s.State != devices.Offline || !strings.Contains(s.Err, "plug the adapter in") {
			t.Errorf("unplugged: %+v", s)
		}
		d.plug(true)
		time.Sleep(31 * time.Second)
		if s := set.Status()[0]; s.State != devices.Online {
			t.Errorf("plugged in again: %+v", s)
		}
		set.Close()
	})
}

func TestWhatTheLogRefusesIsReplacedByNewerReadingsAndCounted(t *testing.T) {
	for _, c := range []struct {
		name   string
		refuse func(*devicetest.Log, error)
	}{
		{"refused at once", (*devicetest.Log).Refuse},
		{"refused by the commit", (*devicetest.Log).Fail},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, "a: {driver: count, interval: 100ms}",
					map[string]func(context.Context) ([]devices.Reading, error){"count": counter()})
				time.Sleep(950 * time.Millisecond) // 10 readings
				c.refuse(b.Log, errors.New("the log is full"))
				time.Sleep(10 * time.Second) // 100 readings
				status := b.Status()[0]
				if status.State != devices.Online || status.Captured != 10 || status.Missed < 90 || status.Missed > 99 {
					t.Errorf("while it refuses: %+v", status)
				}
				c.refuse(b.Log, nil)
				time.Sleep(2 * time.Second) // 20 readings
				b.Close()
				status = b.Status()[0]
				readings := b.Events("devices/a/count")
				if status.Captured != uint64(len(readings)) || status.Captured+status.Missed != 130 {
					t.Errorf("%d events of 130 readings, %+v", len(readings), status)
				}
				last := 0
				for _, e := range readings {
					var n int
					_, _ = fmt.Sscanf(string(e.Payload), `{"value":%d}`, &n)
					if n <= last {
						t.Errorf("%d after %d", n, last)
					}
					last = n
				}
			})
		})
	}
}

func TestADeviceNeverWaitsForTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		set, err := devicetest.Load("a: {driver: count, interval: 100ms}", []devices.Driver{
			sensorDriver("count", func(context.Context) ([]devices.Reading, error) {
				n++
				return []devices.Reading{{Name: "n", Value: float64(n)}}, nil
			}),
		}, bus.Buses{})
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		slow := func(events []event.Event, done func(error)) error {
			time.Sleep(time.Second) // back-pressure
			for _, e := range events {
				seen = append(seen, string(e.Payload))
			}
			done(nil)
			return nil
		}
		go func() { _ = set.Run(t.Context(), slow) }()
		time.Sleep(3950 * time.Millisecond)
		set.Close()
		if n != 40 {
			t.Errorf("%d readings in 4 s", n)
		}
		if status := set.Status()[0]; status.Captured+status.Missed != 40 || status.Captured > 6 {
			t.Errorf("%+v", status)
		}
		if last := seen[len(seen)-1]; last != `{"value":40}` {
			t.Errorf("the newest reading was lost, the last is %s", last)
		}
	})
}

func TestADriverThatPanicsIsADeviceThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, "bad: {driver: bad}\ngood: {driver: good}", map[string]func(context.Context) ([]devices.Reading, error){
			"bad":  func(context.Context) ([]devices.Reading, error) { var none []int; _ = none[3]; return nil, nil },
			"good": counter(),
		})
		time.Sleep(9500 * time.Millisecond)
		all := b.Status()
		if all[0].State != devices.Offline || !strings.Contains(all[0].Err, "panicked at set_test.go:") {
			t.Errorf("%+v", all[0])
		}
		if all[1].Captured != 10 {
			t.Errorf("%+v", all[1])
		}
	})
}

func TestAReadingThatCannotBeAnEventIsAFailure(t *testing.T) {
	for _, c := range []struct {
		name, want string
		reading    []devices.Reading
	}{
		{"not a number", "humidity is not a number", []devices.Reading{{Name: "ok"}, {Name: "humidity", Value: math.NaN()}}},
		{"infinite", "x is not a number but +Inf", []devices.Reading{{Name: "x", Value: math.Inf(1)}}},
		{"reserved", `"status" cannot name`, []devices.Reading{{Name: "status"}}},
		{"wildcard", `"a+" cannot name`, []devices.Reading{{Name: "a+"}}},
		{"nothing", "gave no reading", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, "a: {driver: odd}", map[string]func(context.Context) ([]devices.Reading, error){
					"odd": func(context.Context) ([]devices.Reading, error) { return c.reading, nil },
				})
				time.Sleep(time.Second)
				if s := b.Status()[0]; s.State != devices.Offline || !strings.Contains(s.Err, c.want) {
					t.Errorf("%+v", s)
				}
				if lines := b.Lines("devices/a/+"); len(lines) != 1 {
					t.Errorf("events %q", lines)
				}
			})
		})
	}
}

func TestReadingsThatTakeTooLongAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, "a: {driver: slow, interval: 1s}", map[string]func(context.Context) ([]devices.Reading, error){
			"slow": func(context.Context) ([]devices.Reading, error) {
				time.Sleep(1500 * time.Millisecond)
				return []devices.Reading{{Name: "x"}}, nil
			},
		})
		time.Sleep(10 * time.Second)
		if s := b.Status()[0]; s.Captured != 5 || s.Overruns != 5 {
			t.Errorf("in 10 s: %+v", s)
		}
	})
}

func TestASetEndsWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, attic, nil)
		time.Sleep(3 * time.Second)
		b.Close()
		b.Close()
		n := b.Bus("one").Transfers()
		time.Sleep(time.Minute)
		if b.Bus("one").Transfers() != n {
			t.Error("a closed set is at work")
		}
		if err := b.Run(t.Context(), b.Emit); err != nil {
			t.Errorf("run after close: %v", err)
		}
	})
}

func TestMistakesInTheConfigurationAreShownAtTheirPlace(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"no driver", "a: {bus: 1}", `1:1: the required key "driver" is missing`},
		{"unknown driver", "a:\n  driver: bme208", `2:11: "bme208" is not a driver, did you mean "bme280"?`},
		{"not a mapping", "a: bme280", "1:4: a must be a mapping"},
		{"name", "a/b: {driver: bme280, bus: 1}", `1:1: "a/b" cannot name a device`},
		{"wildcard", "a: {driver: bme280, bus: 1, topic: plant/+}", "1:36: invalid topic"},
		{"slash", "a: {driver: bme280, bus: 1, topic: plant/}", `1:36: "plant/" cannot be`},
		{"system topic", "a: {driver: bme280, bus: 1, topic: $SYS/x}", `1:36: "$SYS/x" cannot be`},
		{"same topic", "a: {driver: bme280, bus: 1}\nb: {driver: bme280, bus: 2, topic: devices/a}", "2:36: the device a has the topic devices/a already"},
		{"same place", "a: {driver: bme280, bus: 1}\nb: {driver: bme280, bus: /dev/i2c-1}", "2:1: 0x76 on bus /dev/i2c-1 is a already"},
		{"same place, written", "a: {driver: bme280, bus: 1}\nb: {driver: bme280, bus: 1, address: 118}", "2:38: 0x76 on bus /dev/i2c-1 is a already"},
		{"address", "a: {driver: bme280, bus: 1, address: 0x80}", "1:38: address: 0x80 is not an address that a device can have"},
		{"interval", "a: {driver: bme280, bus: 1, interval: 1ms}", "1:39: interval must be at least 10ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := devicetest.Load(c.yaml, []devices.Driver{bme280.Driver}, bus.Buses{})
			var errs config.Errors
			if !errors.As(err, &errs) || len(errs) != 1 || !strings.Contains(errs[0].Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}
