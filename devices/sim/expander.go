package sim

import (
	"sync"
	"time"
)

// PCA9548 is a model of NXP's multiplexer: eight buses behind one address.
type PCA9548 struct {
	mu       sync.Mutex
	control  byte
	channels [8]*Bus
}

// NewPCA9548 returns a multiplexer with no channel open and nothing behind it.
func NewPCA9548() *PCA9548 {
	d := new(PCA9548)
	for i := range d.channels {
		d.channels[i] = NewBus("channel")
	}
	return d
}

// Channel returns the bus behind a channel.
func (d *PCA9548) Channel(n int) *Bus { return d.channels[n] }

// Write opens the channels whose bits are set.
func (d *PCA9548) Write(_ time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.control = p[len(p)-1]
}

// Read tells which channels are open.
func (d *PCA9548) Read(_ time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range p {
		p[i] = d.control
	}
}

// PowerOn is what a chip does when its supply returns: all channels are closed.
func (d *PCA9548) PowerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.control = 0
}

// open returns the channels that are open.
func (d *PCA9548) open() (all []*Bus) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, b := range d.channels {
		if d.control>>i&1 == 1 {
			all = append(all, b)
		}
	}
	return all
}

// MCP23017 is a model of Microchip's expander with 16 lines, A0 to B7 by number
// 0 to 15, in the order of registers after power-on (IOCON.BANK 0): directions,
// polarity, pull-ups, levels and latches.
type MCP23017 struct {
	mu      sync.Mutex
	reg     [0x16]byte
	pointer byte
	outside uint16 // levels that the world puts on the lines
	driven  []uint16
}

// Registers of port A; those of port B follow each (data sheet DS20001952).
const (
	mcpIODIR = 0x00
	mcpIPOL  = 0x02
	mcpGPPU  = 0x0c
	mcpGPIO  = 0x12
	mcpOLAT  = 0x14
)

// NewMCP23017 returns a chip that has just been powered on: all lines are
// inputs.
func NewMCP23017() *MCP23017 {
	d := new(MCP23017)
	d.PowerOn()
	return d
}

// PowerOn is what a chip does when its supply returns.
func (d *MCP23017) PowerOn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reg = [0x16]byte{mcpIODIR: 0xff, mcpIODIR + 1: 0xff}
	d.pointer = 0
}

// Set puts a level on a line from outside.
func (d *MCP23017) Set(line int, high bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outside &^= 1 << line
	if high {
		d.outside |= 1 << line
	}
}

// Driven returns what the lines that are outputs carried, one word of levels for
// each change of levels or directions.
func (d *MCP23017) Driven() []uint16 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]uint16(nil), d.driven...)
}

// Output reports whether a line is driven, and how.
func (d *MCP23017) Output(line int) (output, high bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pair(mcpIODIR)>>line&1 == 0, d.pair(mcpOLAT)>>line&1 == 1
}

func (d *MCP23017) pair(reg int) uint16 { return uint16(d.reg[reg]) | uint16(d.reg[reg+1])<<8 }

// Write chooses a register; what follows is written from there on.
func (d *MCP23017) Write(_ time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	inputs, before := d.pair(mcpIODIR), d.pair(mcpOLAT)&^d.pair(mcpIODIR)
	d.pointer = p[0]
	for _, v := range p[1:] {
		switch reg := d.pointer; {
		case int(reg) >= len(d.reg):
		case reg == mcpGPIO, reg == mcpGPIO+1:
			d.reg[reg+2] = v // writing a port writes its latch
		default:
			d.reg[reg] = v
		}
		d.pointer++
	}
	if after := d.pair(mcpOLAT) &^ d.pair(mcpIODIR); after != before || d.pair(mcpIODIR) != inputs {
		d.driven = append(d.driven, after)
	}
}

// Read reads registers one after the other.
func (d *MCP23017) Read(_ time.Time, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.pair(mcpIODIR)
	levels := (d.outside^d.pair(mcpIPOL))&in | d.pair(mcpOLAT)&^in
	for i := range p {
		switch reg := d.pointer; {
		case reg == mcpGPIO:
			p[i] = byte(levels)
		case reg == mcpGPIO+1:
			p[i] = byte(levels >> 8)
		case int(reg) < len(d.reg):
			p[i] = d.reg[reg]
		default:
			p[i] = 0
		}
		d.pointer++
	}
}
