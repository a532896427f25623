package sim

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// fakeBroker speaks as much MQTT as boards need, and misbehaves on order.
type fakeBroker struct {
	refuse func(n int) bool                    // the n-th dial, from 1
	answer func(*packets.PublishPacket) answer // nil: always acknowledge
	code   byte                                // of every CONNACK

	mu      sync.Mutex
	dials   []time.Time
	wills   map[string]int        // published because a connection broke
	got     map[string][]received // taken
	stalled int                   // sent to a connection that takes nothing
	conns   []net.Conn
	open    sync.WaitGroup
}

type answer int

const (
	acknowledge answer = iota
	stall              // take nothing more from this connection
	hangUp             // close the connection instead of taking it
	lose               // take it, and close the connection instead of acknowledging
)

// received is one PUBLISH; topics are per client.
type received struct {
	topic, payload string
	retained       bool
}

func newFakeBroker(t *testing.T) *fakeBroker {
	b := &fakeBroker{wills: map[string]int{}, got: map[string][]received{}}
	t.Cleanup(b.open.Wait)
	return b
}

var errRefused = errors.New("refused by the test")

// dial connects through memory, so that it works in a bubble.
func (b *fakeBroker) dial(context.Context, string, string) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dials = append(b.dials, time.Now())
	if b.refuse != nil && b.refuse(len(b.dials)) {
		return nil, errRefused
	}
	near, far := net.Pipe()
	b.conns = append(b.conns, far)
	b.open.Go(func() { b.serve(far) })
	return near, nil
}

func (b *fakeBroker) serve(c net.Conn) {
	defer c.Close()
	p, err := packets.ReadPacket(c)
	connect, ok := p.(*packets.ConnectPacket)
	if err != nil || !ok {
		return
	}
	ack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
	ack.ReturnCode = b.code
	if ack.Write(c) != nil || b.code != 0 {
		return
	}
	id, stalled := connect.ClientIdentifier, false
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			b.will(connect)
			return
		}
		switch p := p.(type) {
		case *packets.DisconnectPacket:
			return
		case *packets.PingreqPacket:
			packets.NewControlPacket(packets.Pingresp).Write(c)
		case *packets.PublishPacket:
			switch what := b.take(id, p, stalled); what {
			case stall:
				stalled = true
			case hangUp, lose:
				b.will(connect)
				return
			case acknowledge:
				ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				ack.MessageID = p.MessageID
				if ack.Write(c) != nil {
					b.will(connect)
					return
				}
			}
		}
	}
}

func (b *fakeBroker) take(id string, p *packets.PublishPacket, stalled bool) answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	what := acknowledge
	switch {
	case stalled:
		what = stall
	case b.answer != nil:
		what = b.answer(p)
	}
	switch what {
	case stall:
		b.stalled++
	case acknowledge, lose:
		b.got[id] = append(b.got[id], received{p.TopicName, string(p.Payload), p.Retain})
	}
	return what
}

// fail closes all connections at once.
func (b *fakeBroker) fail() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.Close()
	}
}

func (b *fakeBroker) will(c *packets.ConnectPacket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.WillFlag && c.WillRetain && c.WillQos == 1 && string(c.WillMessage) == willPayload {
		b.wills[c.WillTopic]++
	}
}
