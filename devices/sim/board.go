package sim

import (
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"periph.io/x/conn/v3/i2c"
)

// Boards are simulated buses by name, made when they are first asked for. Each
// has the chips below, with a [Daily] weather of its own that depends on the
// name. The zero value is ready for use, from any goroutine.
//
//	I²C     0x18 MCP9808, 0x20 MCP23017, 0x23 BH1750, 0x40 INA219 (0.1 Ω),
//	        0x41 INA226 (0.002 Ω), 0x44 SHT3x, 0x45 SHT4x, 0x48 ADS1115,
//	        0x49 TMP102, 0x4a LM75, 0x62 SCD4x, 0x70 PCA9548 with nothing
//	        behind it, 0x76 and 0x77 BME280
//	SPI     spi0 BME280, spi1 BMP280
//	1-Wire  28-000000000001 and 28-000000000002, DS18B20
//	lines   any
type Boards struct {
	// Weather, if set, is what the chips measure instead.
	Weather func(board string, addr uint16) Weather

	GPIO Lines // chips with lines

	mu      sync.Mutex
	buses   map[string]*Bus
	spi     map[string]*SPI
	oneWire map[string]*OneWire
}

// Bus returns the I²C bus of the board.
func (b *Boards) Bus(board string) *Bus {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bus := b.buses[board]; bus != nil {
		return bus
	}
	bus := NewBus("sim:" + board)
	at := func(addr uint16) Weather { return b.weather(board, addr) }
	light := func(t time.Time) float64 { return max(0, 300*at(0x23)(t).Temperature) }
	supply := func(t time.Time) (float64, float64) { w := at(0x40)(t); return 12 - w.Humidity/100, w.Temperature / 20 }
	bus.Plug(0x18, NewMCP9808(at(0x18)))
	bus.Plug(0x20, NewMCP23017())
	bus.Plug(0x23, NewBH1750(light))
	bus.Plug(0x40, NewINA219(0.1, supply))
	bus.Plug(0x41, NewINA226(0.002, supply))
	bus.Plug(0x44, NewSHT3x(at(0x44)))
	bus.Plug(0x45, NewSHT4x(at(0x45)))
	bus.Plug(0x48, NewADS1115(func(t time.Time, input int) float64 { return at(0x48)(t).Humidity/100 + float64(input)/2 }))
	bus.Plug(0x49, NewThermometer(12, at(0x49)))
	bus.Plug(0x4a, NewThermometer(9, at(0x4a)))
	bus.Plug(0x62, NewSCD4x(at(0x62), func(t time.Time) float64 { return 420 + 5*at(0x62)(t).Humidity }))
	bus.Plug(0x70, NewPCA9548())
	for _, addr := range []uint16{0x76, 0x77} {
		bus.Plug(addr, NewBME280(at(addr)))
	}
	if b.buses == nil {
		b.buses = map[string]*Bus{}
	}
	b.buses[board] = bus
	return bus
}

// Open returns the I²C bus of the board as drivers see it; it never fails.
func (b *Boards) Open(board string) (i2c.BusCloser, error) { return b.Bus(board), nil }

// SPI returns the SPI bus of the board.
func (b *Boards) SPI(board string) *SPI {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spi == nil {
		b.spi = map[string]*SPI{}
	}
	if b.spi[board] == nil {
		bus := NewSPI("sim:" + board)
		bus.Plug(0, NewBME280(b.weather(board, 0)))
		bus.Plug(1, NewBMP280(b.weather(board, 1)))
		b.spi[board] = bus
	}
	return b.spi[board]
}

// OneWire returns the 1-Wire bus of the board.
func (b *Boards) OneWire(board string) *OneWire {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.oneWire == nil {
		b.oneWire = map[string]*OneWire{}
	}
	if b.oneWire[board] == nil {
		bus := NewOneWire()
		for n := range uint16(2) {
			bus.Plug(fmt.Sprintf("28-%012d", n+1), NewDS18B20(12, b.weather(board, n)))
		}
		b.oneWire[board] = bus
	}
	return b.oneWire[board]
}

func (b *Boards) weather(board string, addr uint16) Weather {
	if b.Weather != nil {
		return b.Weather(board, addr)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(board))
	return Daily(h.Sum64() ^ uint64(addr))
}
