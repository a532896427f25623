package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/devices"
	sim "holdfast/firmware-sim"
	"holdfast/gateway/config"
)

// boardCount is three times the plant of the scenario.
const boardCount = 24

// sensors are the simulated boards, and the devices at the simulated buses.
type sensors struct {
	promises *promises
	counters sim.Counters

	stop context.CancelFunc
	done chan struct{} // closed when the boards have ended
	end  sim.Stats
	err  error

	mu       sync.Mutex
	devices  map[*devices.Feed]bool // those that run
	plugged  context.Context        // ends when the devices are pulled
	pullPlug context.CancelFunc
}

func newSensors(p *promises) *sensors {
	s := &sensors{promises: p, done: make(chan struct{}), devices: map[*devices.Feed]bool{}}
	s.plugged, s.pullPlug = context.WithCancel(context.Background())
	return s
}

// start has the boards publish to the broker at addr until halt.
func (s *sensors) start(addr string, seed uint64) error {
	plant, err := sim.Example("plant")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() {
		defer close(s.done)
		s.end, s.err = sim.Run(ctx, sim.Options{
			Broker: "tcp://" + addr, Scenario: plant, Seed: seed, Boards: boardCount,
			Counters:     &s.counters,
			Acknowledged: func(m sim.Message) { s.promises.make(m.Topic, m.Payload) },
		})
	}()
	return nil
}

// halt has the boards say goodbye, and pulls the devices out; done is closed
// once the boards have gone.
func (s *sensors) halt() {
	s.stop()
	s.pullPlug()
}

// captured returns how many events of the devices are on disk, by their own
// count: their readings, and that they came online.
func (s *sensors) captured() (n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for feed := range s.devices {
		if st := feed.Status(); st.State != devices.Starting {
			n += st.Captured + 1
		}
	}
	return n
}

// watched returns d such that its devices are counted, and can be pulled out.
func (s *sensors) watched(d devices.Driver) devices.Driver {
	open := d.New
	d.New = func(section *config.Section, w *devices.Wiring) (devices.Source, error) {
		source, err := open(section, w)
		if err != nil {
			return nil, err
		}
		return &socket{source, s}, nil
	}
	return d
}

// socket is what a device is plugged into.
type socket struct {
	device  devices.Source
	sensors *sensors
}

func (p *socket) Run(ctx context.Context, feed *devices.Feed) error {
	p.sensors.mu.Lock()
	p.sensors.devices[feed] = true
	p.sensors.mu.Unlock()
	plugged, pulled := context.WithCancel(ctx)
	defer pulled()
	defer context.AfterFunc(p.sensors.plugged, pulled)()
	err := p.device.Run(plugged, feed)
	if p.sensors.plugged.Err() != nil {
		<-ctx.Done() // else it would be started anew
		return nil
	}
	return err
}

// promises are the messages that boards were told are safe. Each is kept when
// the same message arrives in the cloud; what is left open at the end is lost.
type promises struct {
	mu   sync.Mutex
	open map[string]int // by topic and payload; negative if it arrived first
}

func newPromises() *promises { return &promises{open: map[string]int{}} }

func (p *promises) make(topic string, payload []byte) { p.add(topic, payload, 1) }
func (p *promises) keep(topic string, payload []byte) { p.add(topic, payload, -1) }

func (p *promises) add(topic string, payload []byte, n int) {
	key := topic + " " + string(payload)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key] += n; p.open[key] == 0 {
		delete(p.open, key)
	}
}

// broken returns how many promises are open.
func (p *promises) broken() (n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, open := range p.open {
		n += uint64(max(open, 0))
	}
	return n
}

// seconds formats a duration for people, with one decimal.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
