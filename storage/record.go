package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"holdfast/gateway/event"
)

// Record format v1. A block's body is a run of records; integers are varints
// (signed ones zig-zag), strings that repeat are references into a dictionary
// that grows as the body is read:
//
//	reference  0 and a string: a new entry · n: the nth entry so far
//	string     length, bytes
//
//	record
//	  flags      bits 0-1 QoS, then one bit for each optional field, see below
//	  received   signed, ns since the record before (the first: since 1970)
//	  skew       signed, change of received - mono since the record before
//	  boot       if flagBoot: the boot number has changed
//	  topic, source, client   references
//	  time       if flagTime: signed, ns from received
//	  key        if flagKey: reference
//	  type       if flagType: reference, content type
//	  trace      if flagTrace: string
//	  properties if flagProperties: see appendProperties
//	  cause      if flagCause: epoch (8 bytes), gateway and stream references, offset
//	  payload    string
//
// The format is frozen: a new field takes a new flag bit, and a reader refuses
// flags that it does not know.
const (
	flagQoS    = 3
	flagRetain = 1 << (iota + 1)
	flagBoot
	flagTime
	flagKey
	flagType
	flagTrace
	flagProperties
	flagCause
	flagsKnown = 1<<(iota+1) - 1
)

const (
	propExpiry = 1 << iota
	propUTF8
	propResponse
	propCorrelation
	propUser
)

// ErrFormat is wrapped by errors about bytes that are not a block or record of
// a version this program reads.
var ErrFormat = errors.New("not in the record format")

// encoder writes the records of one block.
type encoder struct {
	buf   []byte
	count int
	dict  map[string]uint64
	last  [3]lastRef // topic, source and client of the record before
	clock recordClock
}

type lastRef struct {
	s string
	n uint64
}

type recordClock struct {
	received event.Time
	skew     int64
	boot     uint32
}

func (e *encoder) reset() {
	e.buf = e.buf[:0]
	e.count = 0
	if e.dict == nil {
		e.dict = make(map[string]uint64, 64)
	}
	clear(e.dict)
	e.last = [3]lastRef{}
	e.clock = recordClock{}
}

func (e *encoder) add(ev *event.Event) {
	b := e.buf
	flags := uint64(ev.QoS) & flagQoS
	set := func(on bool, bit uint64) {
		if on {
			flags |= bit
		}
	}
	set(ev.Retain, flagRetain)
	set(ev.Boot != e.clock.boot, flagBoot)
	set(ev.Time != 0, flagTime)
	set(ev.Key != "", flagKey)
	set(ev.ContentType != "", flagType)
	set(ev.Trace != "", flagTrace)
	set(ev.Properties != nil, flagProperties)
	set(ev.Cause != nil, flagCause)

	b = binary.AppendUvarint(b, flags)
	b = binary.AppendVarint(b, int64(ev.Received-e.clock.received))
	skew := int64(ev.Received) - int64(ev.Mono)
	b = binary.AppendVarint(b, skew-e.clock.skew)
	if flags&flagBoot != 0 {
		b = binary.AppendUvarint(b, uint64(ev.Boot))
	}
	e.clock = recordClock{ev.Received, skew, ev.Boot}
	b = e.recent(b, 0, ev.Topic)
	b = e.recent(b, 1, ev.Source)
	b = e.recent(b, 2, ev.Client)
	if flags&flagTime != 0 {
		b = binary.AppendVarint(b, int64(ev.Time-ev.Received))
	}
	if flags&flagKey != 0 {
		b, _ = e.ref(b, ev.Key)
	}
	if flags&flagType != 0 {
		b, _ = e.ref(b, ev.ContentType)
	}
	if flags&flagTrace != 0 {
		b = appendString(b, ev.Trace)
	}
	if flags&flagProperties != 0 {
		b = appendProperties(b, ev.Properties)
	}
	if flags&flagCause != 0 {
		b = binary.LittleEndian.AppendUint64(b, ev.Cause.Epoch)
		b, _ = e.ref(b, ev.Cause.Gateway)
		b, _ = e.ref(b, ev.Cause.Stream)
		b = binary.AppendUvarint(b, ev.Cause.Offset)
	}
	b = binary.AppendUvarint(b, uint64(len(ev.Payload)))
	e.buf = append(b, ev.Payload...)
	e.count++
}

// recent writes a reference to s, without asking the dictionary when the
// record before had the same value in the same place: most do.
func (e *encoder) recent(b []byte, place int, s string) []byte {
	l := &e.last[place]
	if l.n != 0 && l.s == s {
		return binary.AppendUvarint(b, l.n)
	}
	b, n := e.ref(b, s)
	*l = lastRef{s, n}
	return b
}

func (e *encoder) ref(b []byte, s string) ([]byte, uint64) {
	if n, ok := e.dict[s]; ok {
		return binary.AppendUvarint(b, n), n
	}
	n := uint64(len(e.dict) + 1)
	e.dict[s] = n
	return appendString(append(b, 0), s), n
}

func appendString[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// appendProperties writes one byte that says which fields follow: expiry
// (seconds), response topic, correlation data, user properties (their number,
// then names and values).
func appendProperties(b []byte, p *event.Properties) []byte {
	var has byte
	if p.HasExpiry {
		has |= propExpiry
	}
	if p.UTF8 {
		has |= propUTF8
	}
	if p.ResponseTopic != "" {
		has |= propResponse
	}
	if p.CorrelationData != nil {
		has |= propCorrelation
	}
	if len(p.User) > 0 {
		has |= propUser
	}
	b = append(b, has)
	if p.HasExpiry {
		b = binary.AppendUvarint(b, uint64(p.Expiry))
	}
	if has&propResponse != 0 {
		b = appendString(b, p.ResponseTopic)
	}
	if has&propCorrelation != 0 {
		b = appendString(b, p.CorrelationData)
	}
	if has&propUser != 0 {
		b = binary.AppendUvarint(b, uint64(len(p.User)))
		for _, u := range p.User {
			b = appendString(appendString(b, u.Name), u.Value)
		}
	}
	return b
}

// decoder reads the records of one block. It is lenient in nothing: any
// length or reference that does not fit is ErrFormat.
type decoder struct {
	b     []byte
	dict  []string
	clock recordClock
	bad   bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	s := d.b[:n:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) ref() string {
	n := d.uvarint()
	if n == 0 {
		s := string(d.bytes())
		if !d.bad {
			d.dict = append(d.dict, s)
		}
		return s
	}
	if n > uint64(len(d.dict)) {
		d.fail()
		return ""
	}
	return d.dict[n-1]
}

// next decodes one record into ev; its payload and correlation data point
// into the block's body.
func (d *decoder) next(ev *event.Event) error {
	flags := d.uvarint()
	if flags&^uint64(flagsKnown) != 0 {
		return fmt.Errorf("%w: record flags %#x are of a later version", ErrFormat, flags)
	}
	*ev = event.Event{QoS: uint8(flags & flagQoS), Retain: flags&flagRetain != 0}
	d.clock.received += event.Time(d.varint())
	d.clock.skew += d.varint()
	if flags&flagBoot != 0 {
		d.clock.boot = uint32(d.uvarint())
	}
	ev.Received = d.clock.received
	ev.Mono = time.Duration(int64(ev.Received) - d.clock.skew)
	ev.Boot = d.clock.boot
	ev.Topic, ev.Source, ev.Client = d.ref(), d.ref(), d.ref()
	if flags&flagTime != 0 {
		ev.Time = ev.Received + event.Time(d.varint())
	}
	if flags&flagKey != 0 {
		ev.Key = d.ref()
	}
	if flags&flagType != 0 {
		ev.ContentType = d.ref()
	}
	if flags&flagTrace != 0 {
		ev.Trace = string(d.bytes())
	}
	if flags&flagProperties != 0 {
		ev.Properties = d.properties()
	}
	if flags&flagCause != 0 {
		ev.Cause = d.cause()
	}
	ev.Payload = d.bytes()
	if d.bad {
		return fmt.Errorf("%w: a record is cut short", ErrFormat)
	}
	return nil
}

func (d *decoder) cause() *event.ID {
	if len(d.b) < 8 {
		d.fail()
		return nil
	}
	id := &event.ID{Epoch: binary.LittleEndian.Uint64(d.b)}
	d.b = d.b[8:]
	id.Gateway, id.Stream = d.ref(), d.ref()
	id.Offset = d.uvarint()
	return id
}

func (d *decoder) properties() *event.Properties {
	if len(d.b) == 0 {
		d.fail()
		return nil
	}
	has := d.b[0]
	d.b = d.b[1:]
	p := &event.Properties{UTF8: has&propUTF8 != 0}
	if has&propExpiry != 0 {
		p.HasExpiry, p.Expiry = true, uint32(d.uvarint())
	}
	if has&propResponse != 0 {
		p.ResponseTopic = string(d.bytes())
	}
	if has&propCorrelation != 0 {
		p.CorrelationData = d.bytes()
	}
	if has&propUser != 0 {
		n := d.uvarint()
		if n > uint64(len(d.b)) { // two length bytes at least for each
			d.fail()
			return nil
		}
		p.User = make([]event.Property, 0, n)
		for range n {
			p.User = append(p.User, event.Property{Name: string(d.bytes()), Value: string(d.bytes())})
		}
	}
	return p
}
