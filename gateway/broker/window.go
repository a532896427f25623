package broker

// maxWindow bounds the messages at QoS 1 and 2 that are sent to a subscriber
// without an acknowledgement, if it does not ask for fewer.
const maxWindow = 512

// sent is a message at QoS 1 or 2 that the subscriber has not acknowledged.
// The message itself is in the log, or among the retained messages.
type sent struct {
	id       uint16
	qos      byte
	retain   bool // as it was sent
	released bool // PUBREC has come, PUBREL goes
	flying   bool // sent on the present connection
	size     int32
	feed     *Feed // nil for a message that no stream has
	offset   uint64
	topic    string // of a retained message, else empty
	group    *group // whose turn it was, nil if not shared
}

// window holds the messages that are on their way to one subscriber, oldest
// first. Packet identifiers count up, so their order is that of the messages.
// The zero window is empty.
type window struct {
	list   []sent // an id of 0 marks one that is settled
	head   int    // list[:head] are settled
	count  int    // of those that are not
	flying int    // of these, on the present connection
	bytes  int    // and their size
	lastID uint16
}

// next returns the packet identifier for one more message, 0 if there is none.
func (w *window) next() uint16 {
	id := w.lastID + 1
	if id == 0 {
		id = 1
	}
	// Identifiers go round: the oldest one is the first that can be met again.
	if w.count > 0 && w.list[w.head].id == id {
		return 0
	}
	return id
}

// add appends a message that is sent now.
func (w *window) add(m sent) {
	if w.head > 32 && w.head > len(w.list)/2 {
		n := copy(w.list, w.list[w.head:])
		clear(w.list[n:])
		w.list, w.head = w.list[:n], 0
	}
	w.lastID = m.id
	w.list = append(w.list, m)
	w.count++
	if m.flying {
		w.flying++
		w.bytes += int(m.size)
	}
}

// find returns the message with the packet identifier, nil if there is none.
// Acknowledgements mostly come for the oldest.
func (w *window) find(id uint16) *sent {
	for i := w.head; i < len(w.list); i++ {
		if w.list[i].id == id {
			return &w.list[i]
		}
	}
	return nil
}

// settle forgets a message.
func (w *window) settle(m *sent) {
	if m.flying {
		w.flying--
		w.bytes -= int(m.size)
	}
	*m = sent{}
	w.count--
	for w.head < len(w.list) && w.list[w.head].id == 0 {
		w.head++
	}
	if w.head == len(w.list) {
		w.list, w.head = w.list[:0], 0
	}
}

// land notes that the connection has ended: everything is to be sent again.
func (w *window) land() {
	for i := range w.list {
		w.list[i].flying = false
	}
	w.flying, w.bytes = 0, 0
	if w.count == 0 {
		w.list, w.head = nil, 0
	}
}

// grounded returns the oldest message that the present connection has not
// been sent, nil if there is none.
func (w *window) grounded() *sent {
	if w.flying == w.count {
		return nil
	}
	for i := w.head; i < len(w.list); i++ {
		if m := &w.list[i]; m.id != 0 && !m.flying {
			return m
		}
	}
	return nil
}

// launch notes that a message is sent.
func (w *window) launch(m *sent) {
	m.flying = true
	w.flying++
	w.bytes += int(m.size)
}

// holds reports whether a message of the log is among them.
func (w *window) holds(f *Feed, offset uint64) bool {
	for i := w.head; i < len(w.list); i++ {
		if m := &w.list[i]; m.id != 0 && m.feed == f && m.offset == offset && m.topic == "" {
			return true
		}
	}
	return false
}
