package bus

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"holdfast/devices"
)

// w1 is where the kernel shows the devices on its 1-Wire buses.
const w1 = "/sys/bus/w1/devices"

// OneWire returns the kernel's 1-Wire buses for w1, all of which the kernel
// shows together, or a simulated one for sim:NAME.
func (b Buses) OneWire(name string) (devices.OneWire, error) {
	if board, ok := strings.CutPrefix(name, simulated); ok {
		if b.SimulatedOneWire == nil {
			return nil, errors.New("there are no simulated buses here")
		}
		return b.SimulatedOneWire(board), nil
	}
	if name != "w1" {
		return nil, fmt.Errorf("%q is not a 1-Wire bus; write w1, or sim:NAME", name)
	}
	return kernelOneWire{b.root(w1)}, nil
}

// root returns where a directory of the kernel is.
func (b Buses) root(dir string) string { return filepath.Join("/", b.Root, dir) }

// kernelOneWire reads thermometers by the files of the kernel's w1_therm.
type kernelOneWire struct{ dir string }

// Convert reads the file that makes the kernel start a conversion, wait for it
// and read the scratchpad: nine bytes in hexadecimal at the start of a line.
func (k kernelOneWire) Convert(id string) (pad [9]byte, err error) {
	text, err := os.ReadFile(filepath.Join(k.dir, filepath.Base(id), "w1_slave"))
	if errors.Is(err, fs.ErrNotExist) {
		return pad, fmt.Errorf("there is no device %s on the 1-Wire buses; is it connected, and is the overlay w1-gpio loaded?", id)
	}
	if err != nil {
		return pad, err
	}
	first, _, _ := strings.Cut(string(text), ":")
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(first), " ", ""))
	if err != nil || len(b) != len(pad) {
		return pad, fmt.Errorf("the kernel gave no scratchpad of %s but %.60q", id, text)
	}
	return [9]byte(b), nil
}

// Devices returns the ids of the devices of all families.
func (k kernelOneWire) Devices() (ids []string, err error) {
	entries, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "w1_bus_master") {
			ids = append(ids, e.Name())
		}
	}
	return ids, err
}
