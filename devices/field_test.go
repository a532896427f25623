package devices_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"

	"holdfast/devices"
	"holdfast/devices/bme280"
	"holdfast/devices/bus"
	"holdfast/devices/devicetest"
	"holdfast/devices/sim"
	"holdfast/gateway/event"
)

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

func TestASensorThatDriftsIsFlaggedOnceItsReadingsCannotBeTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		warmer := sim.Drift(sim.Steady(sim.Climate{Temperature: 20.5, Pressure: 1e5, Humidity: 50}), time.Now(), sim.Climate{Temperature: 24})
		boards := new(sim.Boards)
		boards.Bus("one").Plug(0x76, sim.NewBME280(warmer))
		log, _ := devicetest.Start(t, "attic: {driver: bme280, bus: sim:one, interval: 1h}", []devices.Driver{bme280.Driver}, bus.Buses{Simulated: boards.Open})
		time.Sleep(70*time.Hour + time.Minute) // 1 °C an hour; it measures up to 85 °C
		all := log.Lines("devices/attic/temperature")
		if len(all) != 71 {
			t.Fatalf("%d readings in 70 h", len(all))
		}
		for hour, line := range all {
			if flagged := strings.Contains(line, `"quality":"out_of_range"`); flagged != (hour >= 65) {
				t.Errorf("hour %d: %s", hour, line)
			}
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

// sixtyFour are sensors on four buses, read every 100 ms, with 1.5 ms for each
// transfer and 20 ms for each commit. The fourth bus is stuck.
func sixtyFour(t testing.TB) (set *devices.Set, log *devicetest.Log, letGo func()) {
	t.Helper()
	var yaml strings.Builder
	boards := new(sim.Boards)
	for i := range 64 {
		board := boards.Bus(fmt.Sprint(i % 4))
		fmt.Fprintf(&yaml, "s%d: {driver: tmp102, bus: sim:%d, address: %d, interval: 100ms}\n", i, i%4, 0x10+i)
		board.Plug(uint16(0x10+i), &tmp102Model{raw: uint16(i) << 4})
		board.Slow(1500 * time.Microsecond)
	}
	set, err := devicetest.Load(yaml.String(), []devices.Driver{tmp102}, bus.Buses{Simulated: boards.Open})
	if err != nil {
		t.Fatal(err)
	}
	log = new(devicetest.Log)
	slow := func(events []event.Event, done func(error)) error {
		time.Sleep(20 * time.Millisecond) // a commit
		return log.Emit(events, done)
	}
	stuck := make(chan struct{})
	boards.Bus("3").Break(0x13, func() error {
		<-stuck
		return sim.ErrStalled
	})
	devicetest.Run(t, set, slow)
	return set, log, func() { close(stuck) }
}

func TestSixtyFourSensorsAreReadInTimeBesideAStuckBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		set, log, letGo := sixtyFour(t)
		time.Sleep(10090 * time.Millisecond)
		for i, s := range set.Status() {
			if i%4 == 3 {
				continue
			}
			if s.Captured != 101 || s.Missed+s.Overruns+s.Failures > 0 {
				t.Errorf("%+v", s)
			}
			for k, e := range log.Events(s.Topic + "/temperature") {
				if late := e.Time.Std().Sub(began) - time.Duration(k)*100*time.Millisecond; late > 100*time.Millisecond {
					t.Errorf("%s: reading %d is %v late", s.Name, k, late)
				}
			}
		}
		letGo()
	})
}

// What 64 sensors cost, in per cent of one core.
func BenchmarkSixtyFourSensors(b *testing.B) {
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	_, _, letGo := sixtyFour(b)
	defer letGo()
	time.Sleep(200 * time.Millisecond)
	began, used := time.Now(), cpu()
	for b.Loop() {
		time.Sleep(100 * time.Millisecond)
	}
	b.ReportMetric(100*float64(cpu()-used)/float64(time.Since(began)), "%core")
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
		_, set := devicetest.Start(t, "a: {driver: bme280, bus: sim:x, timeout: 2s}", []devices.Driver{bme280.Driver}, buses)
		time.Sleep(5 * time.Second)
		if s := set.Status()[0]; s.State != devices.Offline || !strings.Contains(s.Err, "not done within 2s") {
			t.Errorf("%+v", s)
		}
		close(letGo)
	})
}

// dock is where a USB adapter is plugged in; what was opened before it was
// unplugged is dead for ever.
type dock struct {
	board *sim.Bus

	mu      sync.Mutex
	present bool
	opened  int
	closed  bool // what was opened last
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
	d.closed = false
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

func (a adapter) Close() error {
	a.dock.mu.Lock()
	defer a.dock.mu.Unlock()
	a.dock.closed = a.dock.closed || a.nth == a.dock.opened
	return nil
}

// While an adapter is open the kernel cannot finish with it when it is pulled out.
func TestABusIsOpenOnlyWhileItIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dock{board: new(sim.Boards).Bus("usb"), present: true}
		_, set := devicetest.Start(t, "a: {driver: bme280, bus: sim:usb, interval: 1m}",
			[]devices.Driver{bme280.Driver}, bus.Buses{Simulated: d.open})
		isOpen := func() bool {
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.opened > 0 && !d.closed
		}
		for range 3 {
			time.Sleep(time.Second)
			if !isOpen() {
				t.Error("it is closed at once")
			}
			time.Sleep(2 * time.Second)
			if isOpen() {
				t.Error("it is open though nobody uses it")
			}
			time.Sleep(57 * time.Second)
		}
		if s := set.Status()[0]; s.Failures > 0 || s.Captured < 9 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnAdapterMayBeUnpluggedAndPluggedInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dock{board: new(sim.Boards).Bus("usb"), present: true}
		_, set := devicetest.Start(t, "a: {driver: bme280, bus: sim:usb, interval: 1s}",
			[]devices.Driver{bme280.Driver}, bus.Buses{Simulated: d.open})
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
		if all[0].State != devices.Offline || !strings.Contains(all[0].Err, "panicked at field_test.go:") {
			t.Errorf("%+v", all[0])
		}
		if all[1].Captured != 10 {
			t.Errorf("%+v", all[1])
		}
	})
}
