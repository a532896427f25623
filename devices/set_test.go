package devices_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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
	b := &bench{Boards: new(sim.Boards)}
	list := []devices.Driver{bme280.Driver}
	for name, read := range drivers {
		list = append(list, sensorDriver(name, read))
	}
	b.Log, b.Set = devicetest.Start(t, yaml, list, bus.Buses{Simulated: b.Open})
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
		devicetest.Run(t, set, slow)
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
