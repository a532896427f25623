package broker

// leastRepeat is how many messages a client may be sent again after kill -9 at
// least, however few it takes at once: every place on disk costs a commit.
const leastRepeat = 128

// progress counts what a client has acknowledged, and how much of that the
// place on disk has. What that does not have is sent again after kill -9, and
// so is what is not acknowledged. Both together are never more than repeats:
// whoever acknowledges faster than the disk takes it down waits for the disk.
// So no acknowledgement costs a commit of its own.
type progress struct {
	acked   uint64 // messages acknowledged since the session began
	asked   uint64 // of these, those in the place given to be written last
	safe    uint64 // and those in the place on disk
	hurried bool   // a place is being written at once
}

// repeats is how many messages the client may be sent again after kill -9. The
// caller holds o.mu, and there is a connection.
func (o *outbox) repeats() int { return max(o.c.window, leastRepeat) }

// unsaved is how many acknowledged messages would be sent again. Those of a
// session that ends with its connection never are.
func (o *outbox) unsaved() int {
	if !o.kept() {
		return 0
	}
	return int(o.acked - o.safe)
}

// note puts the place on disk when the client has acknowledged much since:
// along with the next commit, or at once before it has to wait for that.
func (o *outbox) note() {
	if o.c == nil || o.over || !o.kept() {
		return
	}
	most, unsaved := o.repeats(), o.unsaved()
	hurry := unsaved >= most/2
	if unsaved < most/4 || o.asked > o.safe && (!hurry || o.hurried) {
		return
	}
	_ = o.write(false, hurry, nil) // it fails when the log has failed or is closed
}

// write gives the session's place, and if full its card, to be put on disk.
// done, which may be nil, is called with the outcome and o.mu held. The caller
// holds it too.
func (o *outbox) write(full, hurry bool, done func(error)) error {
	asked := o.acked
	full = full || o.carded && len(o.debts)+len(o.arrears) == 0 // the arrears are paid
	o.asked, o.hurried = asked, o.hurried || hurry
	err := o.b.keeper.put(o.entries(full), hurry, func(err error) {
		o.mu.Lock()
		if err == nil {
			o.safe = max(o.safe, asked)
		}
		if hurry {
			o.hurried = false
		}
		if done != nil {
			done(err)
		}
		o.note()
		o.b.pull(o)
		groups := o.groups
		o.mu.Unlock()
		for _, g := range groups {
			g.kick()
		}
	})
	if err != nil && hurry {
		o.hurried = false
	}
	return err
}
