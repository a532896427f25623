package devices

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"periph.io/x/conn/v3/i2c"
)

// hop is a channel of a PCA9548 multiplexer.
type hop struct {
	addr    Address
	channel uint8
}

func (h hop) String() string { return fmt.Sprintf("/%v:%d", h.addr, h.channel) }

var hopForm = regexp.MustCompile(`^(.+)/(0x[0-9a-fA-F]{1,2}):([0-9]+)$`)

// cutHops takes the multiplexer channels off a bus as the configuration names
// it: 1/0x70:3 is channel 3 of the multiplexer at 0x70 on bus 1.
func cutHops(name string) (root string, hops []hop, err error) {
	for root = name; ; {
		m := hopForm.FindStringSubmatch(root)
		if m == nil {
			slices.Reverse(hops)
			return root, hops, nil
		}
		var h hop
		if err := h.addr.UnmarshalText([]byte(m[2])); err != nil {
			return "", nil, err
		}
		n, err := strconv.Atoi(m[3])
		if err != nil || n > 7 {
			return "", nil, fmt.Errorf("the channels of a PCA9548 go from 0 to 7, not to %s", m[3])
		}
		if h.addr < 0x70 {
			return "", nil, fmt.Errorf("a PCA9548 is at 0x70 to 0x77, not at %v", h.addr)
		}
		h.channel = uint8(n)
		hops, root = append(hops, h), m[1]
	}
}

// i2cBus is a bus that its devices share, with all that is behind its
// multiplexers. All of it but the lane belongs to the lane's goroutine.
//
// The bus is open only while there is something to do, and opened anew after any
// failure: its adapter may have been unplugged, and as long as somebody has the
// file of an adapter that is gone the kernel cannot finish with it, nor see what
// is plugged in at the same USB hub. A multiplexer is told its channel when that
// changes, and each time the bus was opened: it may have lost its supply, and a
// transfer to the wrong channel might succeed.
type i2cBus struct {
	lane
	open  func() (i2c.BusCloser, error)
	muxes []Address // of the multiplexers next to the adapter

	bus   i2c.BusCloser
	path  []hop // that is switched through
	known bool  // path is the truth
}

// tx waits for its turn and the transfer, at most until ctx ends.
func (b *i2cBus) tx(ctx context.Context, hops []hop, addr uint16, w, r []byte) error {
	buf := make([]byte, len(w)+len(r)) // not the caller's, who may have gone
	copy(buf, w)
	where := fmt.Sprintf("address %v on bus %s", Address(addr), pathName(b.name, hops))
	err := b.do(ctx, where, func() error { return b.transfer(hops, addr, buf[:len(w):len(w)], buf[len(w):]) })
	if err == nil {
		copy(r, buf[len(w):])
	}
	return err
}

func pathName(root string, hops []hop) string {
	var s strings.Builder
	s.WriteString(root)
	for _, h := range hops {
		s.WriteString(h.String())
	}
	return s.String()
}

func (b *i2cBus) transfer(hops []hop, addr uint16, w, r []byte) (err error) {
	defer func() {
		if err != nil {
			b.shut()
		}
	}()
	if b.bus == nil {
		if b.bus, err = b.open(); err != nil {
			b.bus = nil
			return err
		}
	}
	if err := b.choose(hops); err != nil {
		return err
	}
	return b.bus.Tx(addr, w, r)
}

// choose switches the multiplexers so that hops lead to one channel, and no
// other channel answers in its place.
func (b *i2cBus) choose(hops []hop) error {
	if len(hops) == 0 || b.known && slices.Equal(b.path, hops) {
		return nil
	}
	if !b.known {
		for _, addr := range b.muxes { // one that is missing closes nothing, and hides nothing
			if addr != hops[0].addr {
				_ = b.bus.Tx(uint16(addr), []byte{0}, nil)
			}
		}
		b.path = nil
	}
	same := 0
	for same < len(hops) && same < len(b.path) && hops[same] == b.path[same] {
		same++
	}
	b.known = false
	if same < len(b.path) && (same == len(hops) || b.path[same].addr != hops[same].addr) {
		if err := b.bus.Tx(uint16(b.path[same].addr), []byte{0}, nil); err != nil {
			return fmt.Errorf("close the multiplexer at %v: %w", b.path[same].addr, err)
		}
	}
	for _, h := range hops[same:] {
		if err := b.bus.Tx(uint16(h.addr), []byte{1 << h.channel}, nil); err != nil {
			return fmt.Errorf("switch the multiplexer at %v to channel %d: %w", h.addr, h.channel, err)
		}
	}
	b.path, b.known = slices.Clone(hops), true
	return nil
}

func (b *i2cBus) shut() {
	if b.bus != nil {
		_ = b.bus.Close() // nothing was buffered
	}
	b.bus, b.known = nil, false
}

// run does transfers until ctx ends, then closes the bus.
func (b *i2cBus) run(ctx context.Context) {
	defer b.shut()
	b.lane.run(ctx, b.shut)
}

// scan returns the addresses at which something answers when one byte is read,
// without those to skip. It gives up a bus that cannot be opened, or that hangs.
func (b *i2cBus) scan(ctx context.Context, skip func(Address) bool) (found []Address, err error) {
	const (
		quick    = 500 * time.Millisecond // a missing answer takes no time
		patience = 3                      // answers that took longer
	)
	slow := 0
	for a := Address(0x08); a <= 0x77; a++ {
		if skip(a) {
			continue
		}
		began := time.Now()
		err := b.tx(ctx, nil, uint16(a), nil, make([]byte, 1))
		if time.Since(began) > quick {
			slow++
		}
		switch {
		case err == nil:
			found = append(found, a)
		case ctx.Err() != nil, slow > patience, b.gone(ctx):
			return found, err
		}
	}
	return found, nil
}

// gone reports whether the bus itself cannot be opened.
func (b *i2cBus) gone(ctx context.Context) bool {
	err := b.do(ctx, "bus "+b.name, func() (err error) {
		if b.bus == nil {
			b.bus, err = b.open()
		}
		if err != nil {
			b.bus = nil
		}
		return err
	})
	return err != nil && !errors.Is(err, context.Canceled)
}
