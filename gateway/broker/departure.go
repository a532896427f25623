package broker

import "holdfast/gateway/broker/packet"

// departure are packets that wait for the session to be on disk.
type departure struct {
	packets  []byte
	recorded bool // one of them may not go before
	message  bool // one of them is a PUBLISH, which later ones must not overtake
}

// send writes a message, at QoS 2 once its packet identifier is on disk, and
// behind one that waits for that. ok is false if the client does not take
// packets of its size.
func (o *outbox) send(d packet.Delivery) (ok bool) {
	record := d.QoS == 2 && o.kept()
	w := &o.waits
	switch {
	case !record && !w.message && !o.leaving:
		return o.c.publish(d)
	case d.QoS == 0 && len(w.packets) > o.b.maxQueued/2:
		o.b.count.dropped.Add(1)
		return true
	}
	if w.packets, ok = packet.AppendPublish(w.packets, d, o.c.v5, o.c.limit); ok {
		w.message, w.recorded = true, w.recorded || record
		o.c.countSent(len(d.Event.Payload))
		o.save()
	}
	return ok
}

// kept reports whether the session is on disk.
func (o *outbox) kept() bool { return o.lasts && o.b.keeper.on() }

// save puts the session on disk and then sends what waits for that.
func (o *outbox) save() {
	if o.saving || len(o.waits.packets) == 0 {
		return
	}
	c, packets := o.c, o.waits.packets
	if !o.waits.recorded { // nothing but what is behind others that have gone now
		o.waits = departure{}
		c.queue(packets)
		return
	}
	o.saving, o.leaving, o.waits = true, o.waits.message, departure{}
	err := o.write(false, true, func(err error) {
		o.saving, o.leaving = false, false
		if err == nil {
			c.queue(packets)
		}
		if o.c != nil {
			o.save()
		}
	})
	if err != nil { // the log has failed or is closed
		o.saving, o.leaving = false, false
	}
}
