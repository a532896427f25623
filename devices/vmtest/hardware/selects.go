//go:build vm

package hardware

import (
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"time"

	"periph.io/x/conn/v3/spi"

	"holdfast/devices/sim"
)

// Selects is an SPI bus of the kernel: NXP's bridge SC18IS602 at the I²C bus of an
// [Adapter], which the kernel's driver spi-sc18is602 works, with chips at its
// selects.
type Selects struct {
	// File is /dev/spidevN.0 while the adapter is plugged in.
	File string

	adapter *Adapter
}

// selectsModule takes the name of a bridge and gives two selects of its bus to
// spidev. On boards the device tree does that; see .ci/vm.sh.
const selectsModule = "/sys/module/spi_selects/parameters/bridge"

// CanSPI reports whether the machine has the modules for an SPI bus.
func CanSPI() bool {
	_, err := os.Stat(selectsModule)
	return err == nil
}

// bridgeAddress is that of an SC18IS602 whose address lines are low.
const bridgeAddress = 0x28

// NewSelects returns a bus that is not plugged in, with the chips of the board.
func NewSelects(board *sim.SPI) *Selects {
	b := sim.NewBus("bridge")
	b.Plug(bridgeAddress, &spiBridge{board: board})
	return &Selects{adapter: NewAdapter(b)}
}

// Plug plugs the adapter in, and returns when the file of the first select is there.
func (s *Selects) Plug() error {
	if err := s.adapter.Plug(); err != nil {
		return err
	}
	n := strings.TrimPrefix(s.adapter.File, "/dev/i2c-")
	client := fmt.Sprintf("/sys/bus/i2c/devices/i2c-%s/new_device", n)
	if err := os.WriteFile(client, fmt.Appendf(nil, "sc18is602 %#x", bridgeAddress), 0); err != nil {
		return fmt.Errorf("tell the kernel of the bridge: %w", err)
	}
	bridge := fmt.Sprintf("%s-%04x", n, bridgeAddress)
	if err := os.WriteFile(selectsModule, []byte(bridge), 0); err != nil {
		return fmt.Errorf("give the selects to spidev: %w", err)
	}
	buses, _ := filepath.Glob("/sys/bus/i2c/devices/" + bridge + "/spi_master/spi*")
	if len(buses) != 1 {
		return fmt.Errorf("the kernel has %d SPI buses at the bridge", len(buses))
	}
	s.File = "/dev/spidev" + strings.TrimPrefix(filepath.Base(buses[0]), "spi") + ".0"
	_, err := os.Stat(s.File)
	return err
}

// Unplug pulls the adapter out.
func (s *Selects) Unplug() error { return s.adapter.Unplug() }

// spiBridge is a model of the SC18IS602 (data sheet revision 7, section 7.1): a write
// whose first byte has a bit for each select is one transfer, whose answer is read
// afterwards; the function 0xf0 says how the lines are used.
type spiBridge struct {
	board  *sim.SPI
	mode   spi.Mode
	answer []byte
}

func (b *spiBridge) Write(_ time.Time, p []byte) {
	const configure = 0xf0
	switch {
	case p[0] == configure && len(p) == 2:
		// CPHA is bit 2, CPOL bit 3.
		b.mode = spi.Mode(p[1]>>2&1 | p[1]>>3&1<<1)
	case p[0] > 0 && p[0] < 16:
		b.answer = make([]byte, len(p)-1)
		conn, err := b.board.Port(uint16(bits.TrailingZeros8(p[0]))).Connect(0, b.mode, 8)
		if err != nil || conn.Tx(p[1:], b.answer) != nil {
			sim.Floating{}.Read(time.Time{}, b.answer) // nobody tells the bridge
		}
	}
}

func (b *spiBridge) Read(_ time.Time, p []byte) { copy(p, b.answer) }
