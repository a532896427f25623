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
	clients map[string]int // connections accepted
	wills   map[string]int // published because a connection broke
	got     map[string][]received
	open    sync.WaitGroup
}

type answer int

const (
	acknowledge answer = iota
	swallow            // take it and say nothing
	hangUp             // close the connection instead
)

// received is one PUBLISH; topics are per client.
type received struct {
	topic, payload string
	retained       bool
}

func newFakeBroker(t *testing.T) *fakeBroker {
	b := &fakeBroker{clients: map[string]int{}, wills: map[string]int{}, got: map[string][]received{}}
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
	id := connect.ClientIdentifier
	b.mu.Lock()
	b.clients[id]++
	b.mu.Unlock()
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
			b.mu.Lock()
			b.got[id] = append(b.got[id], received{p.TopicName, string(p.Payload), p.Retain})
			what := acknowledge
			if b.answer != nil {
				what = b.answer(p)
			}
			b.mu.Unlock()
			switch what {
			case hangUp:
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

func (b *fakeBroker) will(c *packets.ConnectPacket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.WillFlag && c.WillRetain && c.WillQos == 1 && string(c.WillMessage) == willPayload {
		b.wills[c.WillTopic]++
	}
}
