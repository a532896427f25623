package sim

import (
	"errors"
	"fmt"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
)

// SPIDevice is a chip at a select of an SPI bus. The bus calls it once at a time.
type SPIDevice interface {
	// Exchange is one transfer, from the fall of the select to its rise: the
	// chip takes w and fills answer, which is as long. mode is how the lines
	// are used.
	Exchange(now time.Time, mode spi.Mode, w, answer []byte)
}

// SPI is a simulated SPI bus with chips at its selects. All methods may be called
// at any time from any goroutine. Nobody acknowledges anything on such a bus:
// where there is no chip, it reads as ones.
type SPI struct {
	wires[SPIDevice]
}

// NewSPI returns a bus with nothing on it.
func NewSPI(name string) *SPI { return &SPI{wires[SPIDevice]{name: name}} }

// Port returns a select as periph's drivers see it. It can be connected once.
func (b *SPI) Port(sel uint16) spi.PortCloser { return &spiPort{bus: b, sel: sel} }

func (b *SPI) exchange(sel uint16, mode spi.Mode, w, r []byte) error {
	if len(w) != len(r) && len(w) > 0 && len(r) > 0 {
		return fmt.Errorf("%s: %d bytes cannot be exchanged for %d", b.name, len(w), len(r))
	}
	if err := b.pass(sel); err != nil {
		return fmt.Errorf("%s, select %d: %w", b.name, sel, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	answer := make([]byte, max(len(w), len(r)))
	Floating{}.Read(time.Time{}, answer)
	if chip := b.chips[sel]; chip != nil {
		sent := make([]byte, len(answer))
		copy(sent, w)
		chip.Exchange(b.now(), mode, sent, answer)
	}
	b.noise(sel, answer)
	copy(r, answer)
	return nil
}

// spiPort is a select.
type spiPort struct {
	bus       *SPI
	sel       uint16
	mode      spi.Mode
	connected bool
}

func (p *spiPort) String() string                    { return fmt.Sprintf("%s, select %d", p.bus.name, p.sel) }
func (p *spiPort) Close() error                      { return nil }
func (p *spiPort) LimitSpeed(physic.Frequency) error { return nil }

func (p *spiPort) Connect(_ physic.Frequency, mode spi.Mode, bits int) (spi.Conn, error) {
	if p.connected || bits != 8 {
		return nil, errors.New("a port is connected once, with 8 bits to a word")
	}
	p.mode, p.connected = mode, true
	return p, nil
}

func (p *spiPort) Duplex() conn.Duplex          { return conn.Full }
func (p *spiPort) Tx(w, r []byte) error         { return p.bus.exchange(p.sel, p.mode, w, r) }
func (p *spiPort) TxPackets([]spi.Packet) error { return errors.New("packets are not simulated") }
