package devices

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"periph.io/x/conn/v3/i2c"

	"holdfast/devices/gpio"
)

// Places are the buses of a machine, by the names that the configuration can
// give them.
type Places struct {
	I2C     []string
	SPI     []string
	OneWire []string
	Chips   []ChipInfo
}

// ChipInfo describes a GPIO chip.
type ChipInfo struct {
	Name, Label string
	Lines       []LineInfo
}

// LineInfo describes a line of a chip.
type LineInfo struct {
	Number int
	Name   string
	User   string // who has it; "" for nobody
}

// Found is something that a scan has found.
type Found struct {
	Bus     string
	Label   string   // of a chip with lines, which can name it too
	At      string   // address, id, or line
	Name    string   // of a line
	Device  string   // that is configured there, or who has the line
	Drivers []string // that could drive it, by its address
	Err     string   // why the bus could not be looked at
}

// Scan looks for devices at all buses of the machine and of the configuration.
// Addresses of configured devices are not disturbed; at the others one byte is
// read, which hardly any chip minds. A bus that hangs ends the scan of that bus
// with ctx, and of no other.
func (set *Set) Scan(ctx context.Context, drivers []Driver) []Found {
	places := set.wiring.buses.Places()
	var names []string
	names = append(names, places.I2C...)
	for name := range set.wiring.i2c {
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	results := make([][]Found, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { results[i] = set.scanI2C(ctx, name, drivers) })
	}
	all.Wait()
	found := slices.Concat(results...)
	for _, port := range set.ports(places.SPI) { // what is there cannot be asked
		found = append(found, Found{Bus: port, Device: set.wiring.taken[port]})
	}
	buses := places.OneWire
	for name := range set.wiring.oneWire {
		buses = append(buses, name)
	}
	slices.Sort(buses)
	for _, name := range slices.Compact(buses) {
		found = append(found, set.scanOneWire(name)...)
	}
	for _, chip := range places.Chips {
		for _, l := range chip.Lines {
			f := Found{Bus: chip.Name, Label: chip.Label, At: strconv.Itoa(l.Number), Name: l.Name, Device: l.User}
			for _, ref := range []gpio.Ref{{Chip: chip.Name, Line: f.At}, {Chip: chip.Label, Line: f.At}, {Line: l.Name}} {
				if d := set.wiring.taken["line "+ref.String()]; d != "" && ref.Line != "" {
					f.Device = d
				}
			}
			found = append(found, f)
		}
	}
	return found
}

func (set *Set) scanI2C(ctx context.Context, name string, drivers []Driver) (found []Found) {
	bus := set.wiring.i2c[name]
	if bus == nil || !set.running() { // nobody works it: do so for a moment
		bus = &i2cBus{lane: newLane(name), open: func() (i2c.BusCloser, error) { return set.wiring.buses.I2C(name) }}
		work, stop := context.WithCancel(context.Background())
		defer stop()
		go bus.run(work)
	}
	device := func(a Address) string { return set.wiring.taken[a.String()+" on bus "+name] }
	addresses, err := bus.scan(ctx, func(a Address) bool { return device(a) != "" })
	for a := Address(0x08); a <= 0x77; a++ {
		if d := device(a); d != "" {
			found = append(found, Found{Bus: name, At: a.String(), Device: d})
		} else if slices.Contains(addresses, a) {
			found = append(found, Found{Bus: name, At: a.String(), Drivers: candidates(drivers, a)})
		}
	}
	if err != nil {
		found = append(found, Found{Bus: name, Err: err.Error()})
	}
	return found
}

func candidates(drivers []Driver, a Address) (names []string) {
	if a >= 0x70 && a <= 0x77 {
		names = append(names, "multiplexer PCA9548")
	}
	for _, d := range drivers {
		if slices.Contains(d.Addresses, a) {
			names = append(names, d.Name)
		}
	}
	return names
}

// ports adds the SPI ports of the configuration to those of the machine.
func (set *Set) ports(all []string) []string {
	for _, d := range set.devices {
		if bus := d.feed.status.Bus; IsSPI(bus) {
			all = append(all, bus)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (set *Set) scanOneWire(name string) (found []Found) {
	bus, err := set.wiring.buses.OneWire(name)
	var ids []string
	if err == nil {
		ids, err = bus.Devices()
	}
	for _, id := range ids {
		f := Found{Bus: name, At: id, Device: set.wiring.taken[name+" "+id]}
		if len(id) > 3 && id[:3] == "28-" {
			f.Drivers = []string{"ds18b20"}
		}
		found = append(found, f)
	}
	if err != nil {
		found = append(found, Found{Bus: name, Err: err.Error()})
	}
	return found
}

func (set *Set) running() bool {
	set.mu.Lock()
	defer set.mu.Unlock()
	return set.stop != nil && !set.closed
}
