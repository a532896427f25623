//go:build vm

// Package hardware plays hardware for the kernel that it runs on: USB adapters
// with I²C buses and lines, which it plugs in over USB/IP without any network,
// and chips with lines of the kernel's module gpio-sim.
//
// A process that ends in the middle of a transfer over an adapter that it plays
// itself hangs, since nobody is left to answer: end transfers first.
package hardware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// controller is where the kernel shows the host controller for USB/IP.
const controller = "/sys/devices/platform/vhci_hcd.0"

// patience is how long the kernel may take to set a device up, or to let go of
// a port: far longer than it does, even on a slow host.
const patience = 2 * time.Minute

// setup is the first part of a control request (USB 2.0, table 9-2).
type setup struct {
	kind, request        byte
	value, index, length uint16
}

// behaviour is what makes a device more than any other.
type behaviour interface {
	// control answers requests that are not common to all devices, one at a
	// time: with data if it is asked for some. An error stalls the endpoint.
	control(s setup, data []byte) ([]byte, error)
	// output takes what is sent to an endpoint.
	output(data []byte)
}

// usb is a full-speed device that can be plugged in.
type usb struct {
	descriptor    []byte // of the device (table 9-8)
	configuration []byte // its only one, with all that follows it (table 9-10)
	names         []string
	behaviour     behaviour

	port int
	mu   sync.Mutex
	plug *plug // nil while unplugged
}

// plug is one connection with the kernel, from plugging in to unplugging.
type plug struct {
	device *usb
	conn   *os.File
	todo   chan urb
	done   sync.WaitGroup

	mu      sync.Mutex
	waiting map[uint32]urb // not answered yet, by number
	asking  []urb          // those of them that wait for data of the interrupt endpoint
	data    [][]byte       // that waits for one who asks
}

// urb is a request of the kernel.
type urb struct {
	number   uint32
	in       bool
	endpoint uint32
	length   uint32
	setup    setup
	data     []byte
}

// Commands of USB/IP, see Documentation/usb/usbip_protocol.rst of the kernel.
// All begin with a header of so many bytes.
const (
	headerSize   = 48
	submit       = 1
	unlink       = 2
	submitAnswer = 3
	unlinkAnswer = 4
)

// plugIn connects the device to a free port.
func (d *usb) plugIn() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(ends[1]) // the kernel keeps its own reference
	if err := syscall.SetNonblock(ends[0], true); err != nil {
		return err
	}
	p := &plug{device: d, conn: os.NewFile(uintptr(ends[0]), "usbip"), todo: make(chan urb, 64), waiting: map[uint32]urb{}}
	p.done.Go(p.read)
	p.done.Go(p.work)
	const fullSpeed = 2
	line := fmt.Sprintf("%d %d %d %d", port, ends[1], port+1, fullSpeed)
	if err := os.WriteFile(filepath.Join(controller, "attach"), []byte(line), 0); err != nil {
		p.conn.Close()
		return fmt.Errorf("plug in: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.port, d.plug = port, p
	return nil
}

// unplug takes the device away, in the middle of whatever it does, and returns
// when the kernel has noticed and let go of it.
func (d *usb) unplug() error {
	d.mu.Lock()
	p := d.plug
	d.plug = nil
	d.mu.Unlock()
	if p == nil {
		return nil
	}
	err := os.WriteFile(filepath.Join(controller, "detach"), fmt.Append(nil, d.port), 0)
	p.conn.Close()
	p.done.Wait()
	if err != nil {
		return fmt.Errorf("unplug: %w", err)
	}
	return await("the kernel to let go of a device", func() bool {
		left, _ := filepath.Glob(d.path())
		return len(left) == 0
	})
}

// path is a pattern of where the kernel shows the device.
func (d *usb) path() string { return fmt.Sprintf("%s/usb*/*-%d", controller, d.port+1) }

// freePort returns the number of a port for devices that are not of USB 3.
func freePort() (port int, err error) {
	const free = 4 // VDEV_ST_NULL
	err = await("a free port of vhci-hcd", func() bool {
		status, _ := os.ReadFile(filepath.Join(controller, "status"))
		for line := range strings.Lines(string(status)) {
			var state int
			if n, _ := fmt.Sscanf(line, "hs %d %d", &port, &state); n == 2 && state == free {
				return true
			}
		}
		return false
	})
	return port, err
}

// node waits for what the kernel makes of the device: a folder that matches the
// pattern below that of the device's interface, with a file below /dev of its
// name.
func (d *usb) node(pattern string) (name string, err error) {
	pattern = fmt.Sprintf("%s/*-%d:1.0/%s", d.path(), d.port+1, pattern)
	err = await(pattern, func() bool {
		found, _ := filepath.Glob(pattern)
		if len(found) == 0 {
			return false
		}
		name = "/dev/" + filepath.Base(found[0])
		_, err := os.Stat(name)
		return err == nil
	})
	return name, err
}

// await waits until the kernel has done something.
func await(what string, done func() bool) error {
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(2 * time.Millisecond) {
		if done() {
			return nil
		}
	}
	return fmt.Errorf("waited %v for %s", patience, what)
}

// read takes requests until the connection ends.
func (p *plug) read() {
	defer close(p.todo)
	h := make([]byte, headerSize)
	for {
		if _, err := io.ReadFull(p.conn, h); err != nil {
			return
		}
		word := func(i int) uint32 { return binary.BigEndian.Uint32(h[4*i:]) }
		u := urb{number: word(1), in: word(3) == 1, endpoint: word(4), length: word(6)}
		switch word(0) {
		case submit:
			s := h[40:]
			u.setup = setup{s[0], s[1], binary.LittleEndian.Uint16(s[2:]), binary.LittleEndian.Uint16(s[4:]), binary.LittleEndian.Uint16(s[6:])}
			if !u.in {
				u.data = make([]byte, u.length)
				if _, err := io.ReadFull(p.conn, u.data); err != nil {
					return
				}
			}
			p.take(u)
		case unlink:
			p.forget(u.number, word(5))
		}
	}
}

// take queues a request.
func (p *plug) take(u urb) {
	p.mu.Lock()
	p.waiting[u.number] = u
	ask := u.in && u.endpoint != 0
	if ask {
		p.asking = append(p.asking, u)
		p.deliver()
	}
	p.mu.Unlock()
	if !ask {
		p.todo <- u
	}
}

// work answers requests in their order. It is not that of reading, so that the
// kernel can give up one that takes too long.
func (p *plug) work() {
	for u := range p.todo {
		var answer []byte
		var err error
		if u.endpoint == 0 {
			answer, err = p.device.answer(u.setup, u.data)
		} else {
			p.device.behaviour.output(u.data)
		}
		p.mu.Lock()
		p.answer(u, answer, err)
		p.mu.Unlock()
	}
}

// send gives data to who asks for some at the interrupt endpoint.
func (d *usb) send(data []byte) {
	d.mu.Lock()
	p := d.plug
	d.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data = append(p.data, data)
	p.deliver()
}

// deliver brings together those who ask and data; p.mu is held.
func (p *plug) deliver() {
	for len(p.asking) > 0 && len(p.data) > 0 {
		u, data := p.asking[0], p.data[0]
		p.asking, p.data = p.asking[1:], p.data[1:]
		p.answer(u, data, nil)
	}
}

// answer ends a request, unless the kernel has given it up; p.mu is held.
func (p *plug) answer(u urb, data []byte, err error) {
	if _, ok := p.waiting[u.number]; !ok {
		return
	}
	delete(p.waiting, u.number)
	status, length := int32(0), u.length
	switch {
	case err != nil:
		status, length, data = -int32(syscall.EPIPE), 0, nil
	case u.in:
		data = data[:min(len(data), int(u.length))]
		length = uint32(len(data))
	default:
		data = nil
	}
	p.reply(submitAnswer, u.number, status, length, data)
}

// forget gives a request up. The answer tells whether it was in time.
func (p *plug) forget(number, which uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := int32(0)
	if _, ok := p.waiting[which]; ok {
		delete(p.waiting, which)
		status = -int32(syscall.ECONNRESET)
	}
	p.reply(unlinkAnswer, number, status, 0, nil)
}

func (p *plug) reply(command, number uint32, status int32, length uint32, data []byte) {
	b := make([]byte, headerSize, headerSize+len(data))
	binary.BigEndian.PutUint32(b, command)
	binary.BigEndian.PutUint32(b[4:], number)
	binary.BigEndian.PutUint32(b[20:], uint32(status))
	binary.BigEndian.PutUint32(b[24:], length)
	_, _ = p.conn.Write(append(b, data...)) // an error means unplugged, which read notices
}

var errStall = errors.New("the device does not know that request")

// answer answers a control request: those of chapter 9 of USB 2.0 itself, the
// others by the behaviour.
func (d *usb) answer(s setup, data []byte) ([]byte, error) {
	const (
		kindAndRecipient = 0x7f
		getDescriptor    = 6
	)
	switch {
	case s.kind&kindAndRecipient != 0: // not standard, or not to the device
		return d.behaviour.control(s, data)
	case s.request == getDescriptor:
		return d.describe(byte(s.value>>8), int(s.value&0xff))
	}
	return []byte{0, 0}, nil // to be configured changes nothing
}

func (d *usb) describe(kind byte, index int) ([]byte, error) {
	const device, configuration, name = 1, 2, 3
	switch {
	case kind == device:
		return d.descriptor, nil
	case kind == configuration:
		return d.configuration, nil
	case kind == name && index == 0:
		return []byte{4, name, 0x09, 0x04}, nil // in English
	case kind == name && index <= len(d.names):
		b := []byte{0, name}
		for _, c := range []byte(d.names[index-1]) {
			b = append(b, c, 0)
		}
		b[0] = byte(len(b))
		return b, nil
	}
	return nil, errStall
}
