package broker

import (
	"net"
	"syscall"
	"time"

	"holdfast/gateway/broker/packet"
)

// Write queues packets of mochi. It never waits, for mochi holds a lock
// meanwhile that others need.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.v5 && c.session != nil && len(p) == 2 && p[0] == packet.TypeDisconnect<<4 {
		return len(p), nil // 3.1.1 has no DISCONNECT from the server
	}
	if c.closing {
		return 0, net.ErrClosed
	}
	if len(c.out) > 0 && len(c.out)+len(p) > c.b.maxQueued {
		c.close()
		return 0, errSlow
	}
	// The client may be told why its connection ends as soon as it has its
	// CONNACK, even if serve is yet to come.
	switch h, ok, _ := packet.ReadHeader(p); {
	case ok && h.Type() == packet.TypeConnack:
		c.greeted = len(p) > h.Size+1 && p[h.Size+1] == packet.Success
	case ok && h.Type() == packet.TypeDisconnect:
		if !c.greeted {
			return len(p), nil // CONNACK comes first [MQTT-3.2.0-1]
		}
		c.greeted = false
	}
	c.out = append(c.out, p...)
	c.packets++
	c.flush()
	return len(p), nil
}

// queue writes packets of the broker.
func (c *conn) queue(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.out = append(c.out, p...)
		c.packets += countPackets(p)
		c.flush()
	}
}

// countPackets returns how many whole packets there are in b.
func countPackets(b []byte) (n int) {
	for len(b) > 0 {
		h, _, _ := packet.ReadHeader(b)
		b = b[min(max(h.Len(), 1), len(b)):]
		n++
	}
	return n
}

// congested reports whether the client leaves much unread. If so, the outbox
// is told when that is over.
func (c *conn) congested() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starved = len(c.out) > c.b.maxQueued/4
	return c.starved
}

// publish queues a message for the client. ok is false if the client does not
// take packets of its size [MQTT-3.1.2-24].
func (c *conn) publish(d packet.Delivery) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return true
	}
	if d.QoS == 0 && len(c.out) > c.b.maxQueued/2 {
		c.b.count.dropped.Add(1)
		return true
	}
	if c.aliasMax > 0 {
		c.alias(&d)
	}
	if c.out, ok = packet.AppendPublish(c.out, d, c.v5, c.limit); ok {
		if d.Alias > 0 && !d.Bare {
			c.given[d.Event.Topic] = d.Alias
		}
		c.countSent(len(d.Event.Payload))
		c.packets++
		c.flush()
	}
	return ok
}

func (c *conn) countSent(payload int) {
	c.b.count.delivered.Add(1)
	c.b.count.payloadOut.Add(uint64(payload))
}

// countOut counts bytes that are sent and the packets queued until now. The
// caller holds c.mu.
func (c *conn) countOut(bytes int) {
	c.b.count.bytesOut.Add(uint64(bytes))
	c.b.count.packetsOut.Add(uint64(c.packets))
	c.packets = 0
}

// alias gives the topic of a message an alias, the first ones that come.
func (c *conn) alias(d *packet.Delivery) {
	if a, ok := c.given[d.Event.Topic]; ok {
		d.Alias, d.Bare = a, true
		return
	}
	if c.given == nil {
		c.given = map[string]uint16{}
	}
	if len(c.given) < min(c.aliasMax, maxAlias) {
		d.Alias = uint16(len(c.given) + 1)
	}
}

// flush sees to it that c.out is sent. The caller holds c.mu.
func (c *conn) flush() {
	if !c.flushing && len(c.out) > 0 {
		c.flushing = true
		c.b.wg.Add(1)
		go c.send()
	}
}

// sendNow gives the queue to the socket as far as that takes it at once. For a
// client that waits for one acknowledgement this saves the start of a
// goroutine, and with that the waking of a processor. The caller holds c.mu.
func (c *conn) sendNow() {
	if c.flushing || c.closing || c.raw == nil || len(c.out) == 0 {
		return
	}
	// What is left, and any error, is for send.
	_ = c.raw.Write(func(fd uintptr) bool {
		if n, err := syscall.Write(int(fd), c.out); err == nil {
			c.countOut(n)
			c.out = c.out[:copy(c.out, c.out[n:])]
		}
		return true
	})
}

// send writes the queue to the socket until it is empty.
func (c *conn) send() {
	defer c.b.wg.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 {
		buf := c.out
		c.out, c.spare = c.spare[:0], nil
		c.countOut(len(buf))
		c.mu.Unlock()
		if now := time.Now(); c.sendBy.Sub(now) < writeTimeout/2 {
			c.sendBy = now.Add(writeTimeout)
			_ = c.Conn.SetWriteDeadline(c.sendBy)
		}
		_, err := c.Conn.Write(buf)
		c.mu.Lock()
		if c.starved && len(c.out) < c.b.maxQueued/8 && c.session != nil {
			c.starved = false
			c.mu.Unlock()
			c.session.out.drained()
			c.mu.Lock()
		}
		c.spare = buf[:0]
		c.changed.Broadcast()
		if err != nil {
			c.out = nil
			c.close()
		}
	}
	if cap(c.out) > keptOut {
		c.out = nil
	}
	if cap(c.spare) > keptOut {
		c.spare = nil
	}
	c.flushing = false
	c.changed.Broadcast()
}
