package sim

import (
	"hash/fnv"
	"sync"

	"periph.io/x/conn/v3/i2c"
)

// Boards are simulated buses by name, made when they are first asked for: each
// has a BME280 at 0x76 and another at 0x77, with a [Daily] weather of its own
// that depends on the name. The zero value is ready for use, from any
// goroutine.
type Boards struct {
	// Weather, if set, is what the chips measure instead.
	Weather func(board string, addr uint16) Weather

	mu    sync.Mutex
	buses map[string]*Bus
}

// Bus returns the bus of the board.
func (b *Boards) Bus(board string) *Bus {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bus := b.buses[board]; bus != nil {
		return bus
	}
	bus := NewBus("sim:" + board)
	for _, addr := range []uint16{0x76, 0x77} {
		bus.Plug(addr, NewBME280(b.weather(board, addr)))
	}
	if b.buses == nil {
		b.buses = map[string]*Bus{}
	}
	b.buses[board] = bus
	return bus
}

// Open returns the bus of the board as drivers see it; it never fails.
func (b *Boards) Open(board string) (i2c.BusCloser, error) { return b.Bus(board), nil }

func (b *Boards) weather(board string, addr uint16) Weather {
	if b.Weather != nil {
		return b.Weather(board, addr)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(board))
	return Daily(h.Sum64() ^ uint64(addr))
}
