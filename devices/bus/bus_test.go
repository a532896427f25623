package bus_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"periph.io/x/conn/v3/spi"

	"holdfast/devices"
	"holdfast/devices/bus"
	"holdfast/devices/sim"
)

var _ devices.Buses = bus.Buses{}

func TestABusHasOneNameHoweverItIsWritten(t *testing.T) {
	b := bus.Buses{Simulated: new(sim.Boards).Open}
	for _, c := range []struct{ name, want, problem string }{
		{name: "1", want: "/dev/i2c-1"},
		{name: "/dev/i2c-1", want: "/dev/i2c-1"},
		{name: "/dev//i2c-1", want: "/dev/i2c-1"},
		{name: "/dev/greenhouse", want: "/dev/greenhouse"}, // a link by udev
		{name: "sim:board", want: "sim:board"},
		{name: "sim:", problem: "needs a name"},
		{name: "i2c1", problem: "is not an I²C bus"},
		{name: "/etc/passwd", problem: "is not an I²C bus"},
		{name: "/dev/../etc/passwd", problem: "is not an I²C bus"},
		{name: "-1", problem: "is not an I²C bus"},
		{name: "", problem: "is not an I²C bus"},
	} {
		got, err := b.ResolveI2C(c.name)
		if got != c.want || (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%q: got %q, %v; want %q, %s", c.name, got, err, c.want, c.problem)
		}
	}
	if _, err := (bus.Buses{}).ResolveI2C("sim:board"); err == nil {
		t.Error("a simulated bus was found where there are none")
	}
}

func TestAnAdapterThatIsNotThereIsExplained(t *testing.T) {
	_, err := bus.Buses{}.I2C("/dev/i2c-4711")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "enable I²C") {
		t.Errorf("got %v", err)
	}
	if _, err := (bus.Buses{}).I2C("/dev/null"); err == nil || !strings.Contains(err.Error(), "it is not an I²C bus") {
		t.Errorf("got %v", err)
	}
}

func TestASimulatedBusIsTheBoardOfThatName(t *testing.T) {
	boards := new(sim.Boards)
	got, err := bus.Buses{Simulated: boards.Open}.I2C("sim:attic")
	if err != nil {
		t.Fatal(err)
	}
	var id [1]byte
	if err := got.Tx(0x76, []byte{0xd0}, id[:]); err != nil || id[0] != 0x60 {
		t.Errorf("chip id %#x, %v", id[0], err)
	}
	if boards.Bus("attic").Transfers() != 1 || got.String() != "sim:attic" {
		t.Errorf("%v is not the board", got)
	}
}

func TestAnSPIPortHasOneNameHoweverItIsWritten(t *testing.T) {
	boards := new(sim.Boards)
	b := bus.Buses{SimulatedSPI: func(board string, sel uint16) spi.PortCloser { return boards.SPI(board).Port(sel) }}
	for _, c := range []struct{ name, bus, port, problem string }{
		{name: "spi0.1", bus: "/dev/spidev0", port: "/dev/spidev0.1"},
		{name: "SPI0.1", bus: "/dev/spidev0", port: "/dev/spidev0.1"},
		{name: "/dev/spidev10.0", bus: "/dev/spidev10", port: "/dev/spidev10.0"},
		{name: "/dev/spi-boiler", bus: "/dev/spi-boiler", port: "/dev/spi-boiler"}, // a link by udev
		{name: "sim:board/spi1", bus: "sim:board/spi", port: "sim:board/spi1"},
		{name: "sim:board/spi", problem: "is not a select"},
		{name: "spi0", problem: "is not a select"},
		{name: "/dev/../etc/passwd", problem: "is not a select"},
	} {
		bus, port, err := b.ResolveSPI(c.name)
		if bus != c.bus || port != c.port || (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%q: got %q, %q, %v; want %q, %q, %s", c.name, bus, port, err, c.bus, c.port, c.problem)
		}
	}
	if _, _, err := (bus.Buses{}).ResolveSPI("sim:board/spi0"); err == nil {
		t.Error("a simulated bus was found where there are none")
	}
}

func TestAnSPIPortThatIsNotThereIsExplained(t *testing.T) {
	_, err := bus.Buses{}.SPI("/dev/spidev4711.0")
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "enable SPI") {
		t.Errorf("got %v", err)
	}
	if _, err := (bus.Buses{}).SPI("/dev/null"); err == nil || !strings.Contains(err.Error(), "it is not an SPI port") {
		t.Errorf("got %v", err)
	}
}

func TestTheSPIPortsOfTheMachineAreFound(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o750); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"spidev0.0", "spidev0.1", "i2c-1"} {
		if err := os.WriteFile(filepath.Join(root, "dev", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := (bus.Buses{Root: root}).Places().SPI, []string{"/dev/spidev0.0", "/dev/spidev0.1"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
