package broker

import (
	"errors"
	"testing"

	"holdfast/gateway/broker/packet"
)

// One stream of several is full: only what is for it is refused.
func TestOnlyWhatTheLogRefusesIsRefused(t *testing.T) {
	pubs := []pub{{topic: "x", qos: 1, id: 1}, {topic: "full"}, {topic: "full", qos: 1, id: 2}, {topic: "x", qos: 2, id: 3}, {topic: "full", qos: 2, id: 4}, {topic: "full", qos: 2, id: 4, dup: true}, {topic: "x", qos: 1, id: 5}}
	some := func() error { return &PartialError{Refused: []int{1, 2, 4}, Err: ErrRefused} }
	t.Run("mqtt5 is told", func(t *testing.T) {
		l := newFakeLog()
		l.byHand = true
		b := start(t, l)
		c := connect(t, b, v5, "a")
		c.publish(pubs...)
		l.events(t, 6)
		l.commit(some())
		c.expect(puback(1)...)
		c.expect(packet.TypePuback<<4, 3, 0, 2, packet.QuotaExceeded)
		c.expect(pubrec(3)...)
		c.expect(packet.TypePubrec<<4, 3, 0, 4, packet.QuotaExceeded)
		c.expect(packet.TypePubrec<<4, 3, 0, 4, packet.QuotaExceeded) // the repetition of what was refused
		c.expect(puback(5)...)
		if got := b.Stats().Refused; got != 3 {
			t.Errorf("%d messages count as refused, want 3", got)
		}
		// The identifier that was refused is free, the other is not.
		c.publish(pub{topic: "x", qos: 2, id: 4}, pub{topic: "x", qos: 2, id: 3, dup: true})
		l.events(t, 7)
		l.commit(nil)
		c.expect(pubrec(4)...)
		c.expect(pubrec(3)...)
	})
	t.Run("mqtt311 has what was taken acknowledged, then it is disconnected", func(t *testing.T) {
		l := newFakeLog()
		l.byHand = true
		c := connect(t, start(t, l), v4, "a")
		c.publish(pubs...)
		l.events(t, 6)
		l.commit(some())
		c.expect(puback(1)...)
		c.expect(pubrec(3)...)
		c.expect(puback(5)...)
		c.closed(0)
	})
	t.Run("mqtt311 at QoS 0 is not disconnected", func(t *testing.T) {
		l := newFakeLog()
		l.byHand = true
		c := connect(t, start(t, l), v4, "a")
		c.publish(pub{topic: "full"}, pub{topic: "x", qos: 1, id: 1})
		l.events(t, 2)
		l.commit(&PartialError{Refused: []int{0}, Err: ErrRefused})
		c.expect(puback(1)...)
		c.silence()
	})
}

// What counts against the receive maximum is given back with a refusal.
func TestRefusalsGiveTheQuotaBack(t *testing.T) {
	l := newFakeLog()
	l.byHand = true
	b := start(t, l, func(o *Options) { o.ReceiveMaximum = 2 })
	c := connect(t, b, v5, "a")
	for range 3 {
		c.publish(pub{topic: "full", qos: 2, id: 1}, pub{topic: "x", qos: 1, id: 2})
		l.mu.Lock()
		l.batches = nil
		for len(l.waiting) == 0 {
			l.grown.Wait()
		}
		l.mu.Unlock()
		l.commit(&PartialError{Refused: []int{0}, Err: ErrRefused})
		c.expect(packet.TypePubrec<<4, 3, 0, 1, packet.QuotaExceeded)
		c.expect(puback(2)...)
	}
}

// An Emit that waits for room learns that nobody waits for it any more.
func TestABatchKnowsWhenItsConnectionIsOver(t *testing.T) {
	l := newFakeLog()
	l.byHand = true
	b := start(t, l)
	c := connect(t, b, v5, "a")
	c.publish(pub{topic: "x", qos: 1, id: 1})
	l.events(t, 1)
	l.mu.Lock()
	gone := l.batches[0].Gone
	l.mu.Unlock()
	select {
	case <-gone:
		t.Fatal("the connection is over before its end")
	default:
	}
	l.commit(errors.New("disk on fire"))
	c.closed(packet.UnspecifiedError)
	<-gone
}
