package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	badger "github.com/dgraph-io/badger/v4"

	"holdfast/gateway/event"
)

// Append is what one source or processor adds to one stream.
type Append struct {
	Stream *Stream
	Events []event.Event
}

// AppendOptions say how an append is to be treated.
type AppendOptions struct {
	// Hurry: whoever sent this waits for the acknowledgement before he goes
	// on. The committer then lingers only for others who are about to append
	// as well, and for a moment only.
	Hurry bool
	// Peers is how many append at the moment, this one included; 0 and 1 mean
	// that nobody else does.
	Peers int
	// Hold are QoS 2 packet identifiers of Client that are taken with these
	// events, in the same transaction.
	Client string
	Hold   []uint16
	// Gone, if not nil, is closed when the source is over; an append that waits
	// for a full stream then gives up with ErrClosed.
	Gone <-chan struct{}
}

// Append adds events from outside to the log. It blocks while too much waits
// for the disk, and returns an error only if nothing was taken; done is then
// never called. Otherwise the events belong to the log, and done is called
// once, in the order of the appends, by whoever commits them, which for an
// append in a hurry may be Append itself: with nil when everything is on disk,
// with ErrFull when the disk had no room, with an error that wraps
// ErrStreamFull when one of the streams refuses, or with an error that wraps
// ErrFailed. Everything in one call is committed as a whole. Append blocks as
// long as one of the streams is full and has the policy Block.
func (l *Log) Append(ctx context.Context, appends []Append, o AppendOptions, done func(error)) error {
	r := &request{source: true, hurry: o.Hurry, peers: o.Peers, done: done}
	r.appends = make([]appendTo, len(appends))
	for i, a := range appends {
		r.appends[i] = appendTo{stream: a.Stream, events: a.Events}
	}
	for _, id := range o.Hold {
		r.sets = append(r.sets, keyValue{heldKey(o.Client, id), []byte{}})
	}
	if err := l.enter(ctx, r, o.Gone); err != nil {
		return err
	}
	err := l.submit(ctx, r)
	if err != nil {
		r.leave()
	}
	return err
}

// Flush returns when everything appended before is on disk and every done has
// been called, or with ErrFull when the disk has no room even for what the
// gateway itself writes.
func (l *Log) Flush(ctx context.Context) error {
	return l.submitAndWait(ctx, &request{hurry: true, flush: true})
}

func (l *Log) submit(ctx context.Context, r *request) error {
	if err := l.Err(); err != nil {
		return err
	}
	// Whoever waits for nobody else commits by himself, which saves the waking
	// of the committer.
	if r.source && r.hurry && r.peers <= 1 {
		if batch := l.queue.putFirst(r, l.stamp); batch != nil {
			l.commit.run(batch)
			l.stats.direct.Add(1)
			l.queue.release(l.overfull())
			return nil
		}
	}
	return l.queue.put(ctx, r, l.stamp)
}

// stamp sets when events were received.
func (l *Log) stamp(events []event.Event) event.Time {
	wall, mono := l.clock.now()
	for i := range events {
		events[i].Received, events[i].Mono, events[i].Boot = wall, mono, l.clock.boot
	}
	return wall
}

// SequencedUntil returns a time such that every event received until then has
// its offset and can be read by a sequenced reader. It is how far a processor
// may move its clock without events.
func (l *Log) SequencedUntil() event.Time { return l.queue.before(l.Now) }

// submitAndWait commits a request of the gateway itself and returns when it is
// on disk.
func (l *Log) submitAndWait(ctx context.Context, r *request) error {
	result := make(chan error, 1)
	r.done = func(err error) { result <- err }
	if err := l.submit(ctx, r); err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commitLoop is the one committer, but for appends that go to the disk at once.
func (l *Log) commitLoop() {
	defer l.committer.Done()
	c := &l.commit
	tick := time.NewTicker(cursorDelay)
	defer tick.Stop()
	var kept time.Time
	for ; ; l.queue.release(false) {
		idle := tick.C
		if l.collecting {
			idle = always
		}
		batch, done := l.queue.take(l.opt.Linger, idle)
		if l.Err() != nil {
			l.collecting = false
			l.refuse(batch, l.Err())
			if done {
				return
			}
			continue
		}
		if len(batch) > 0 {
			c.run(batch)
		} else if !l.collecting || done {
			c.run(nil) // cursors that have moved
		}
		if now := time.Now(); now.Sub(kept) >= time.Second {
			kept = now
			l.upkeep()
		}
		if done {
			return
		}
		switch {
		case l.collecting:
			l.collectOne()
		case l.reclaimDue():
			l.reclaim()
		}
	}
}

// always is an idle timer that has fired.
var always = func() <-chan time.Time { c := make(chan time.Time); close(c); return c }()

func (l *Log) refuse(batch []*request, err error) {
	for _, r := range batch {
		if r.done != nil {
			r.done(err)
		}
	}
}

// upkeep is what the committer does once a second.
func (l *Log) upkeep() {
	l.space.check(0)
	l.space.keepBallast()
	l.maps.advise(l.opt.Dir)
	l.allocate()
	l.limitShares()
	l.writePositionsNowAndThen()
}

// commit is the committer's working memory.
type commit struct {
	log     *Log
	enc     encoder
	index   blockIndex
	prev    *event.Event
	blocks  [][]byte // buffers, one for each block of a transaction
	used    int
	entries []keyValue
	touched map[*Stream]*writing
	order   []*writing
	written int64 // bytes since the files were looked at
}

// writing is what one transaction adds to one stream.
type writing struct {
	stream  *Stream
	events  []appendTo
	limit   uint64    // bytes after which a segment ends
	count   uint64    // and events, if not 0
	segment segment   // the active segment as it will be
	sealed  []segment // segments that end with this transaction
}

// run commits the requests in one transaction: assigns offsets, shows the
// events to processors, writes, and then tells everybody.
func (c *commit) run(batch []*request) {
	l := c.log
	force := len(batch) == 0
	batch = c.admit(batch)
	c.used, c.entries, c.order = 0, c.entries[:0], c.order[:0]
	if c.touched == nil {
		c.touched = map[*Stream]*writing{}
	}
	clear(c.touched)
	size := int64(0)
	for _, r := range batch {
		if r.prepare != nil {
			r.prepare(r)
		}
		for _, a := range r.appends {
			if len(a.events) == 0 {
				continue
			}
			a.stream.append(a.events)
			w := c.touched[a.stream]
			if w == nil {
				a.stream.mu.Lock()
				w = &writing{
					stream: a.stream, limit: a.stream.opt.segmentBytes(), count: a.stream.opt.segmentEvents(),
					segment: a.stream.segments[len(a.stream.segments)-1],
				}
				a.stream.mu.Unlock()
				c.touched[a.stream] = w
				c.order = append(c.order, w)
			}
			w.events = append(w.events, a)
		}
		c.entries = append(c.entries, r.sets...)
		size += int64(r.bytes)
	}
	l.queue.sequenced()
	// Rules evaluate a large batch while it is being synced. For a small one
	// that saves nothing, and waking a processor delays the sync.
	early := size >= hurryBytes
	if early {
		c.wake((*Stream).wakeSequenced)
	}
	for _, w := range c.order {
		c.pack(w)
	}
	cursors := l.dirtyCursors(force)
	if len(batch) == 0 && len(cursors) == 0 {
		l.queue.sequenced()
		return
	}
	for _, d := range cursors {
		b, err := d.cursor.value(d.saved)
		if err != nil {
			l.fail(err)
			break
		}
		c.entries = append(c.entries, keyValue{d.cursor.key, b})
	}
	start := time.Now()
	if err := c.write(); err != nil {
		l.fail(err)
	}
	if err := l.Err(); err != nil {
		l.refuse(batch, err)
		return
	}
	l.stats.commit(time.Since(start), size)
	for _, w := range c.order {
		w.stream.settle(append(w.sealed, w.segment))
	}
	for _, d := range cursors {
		d.cursor.settled(d.saved)
	}
	for _, r := range batch {
		r.leave()
		if r.committed != nil {
			r.committed()
		}
		if r.done != nil {
			r.done(r.refused)
		}
	}
	// Sources first, readers after them: whoever waits for an acknowledgement
	// must not wait for a reader to be woken.
	if !early {
		c.wake((*Stream).wakeSequenced)
	}
	c.wake((*Stream).wakeReaders)
	c.lookAtFiles(size)
}

// wake calls fn for every stream that the transaction adds to.
func (c *commit) wake(fn func(*Stream)) {
	for _, w := range c.order {
		fn(w.stream)
	}
}

// admit refuses the requests of sources that the disk has no room for. The
// gateway's own, which are few once sources are refused, wait in the queue.
func (c *commit) admit(batch []*request) []*request {
	l := c.log
	var size int64
	for _, r := range batch {
		size += int64(r.bytes)
	}
	events, own := l.space.check(size)
	if events && own {
		return batch
	}
	kept := batch[:0]
	for _, r := range batch {
		if r.source {
			l.stats.refused.Add(1)
			r.leave()
			if r.done != nil {
				r.done(ErrFull)
			}
			continue
		}
		kept = append(kept, r)
	}
	if !own {
		kept = slices.DeleteFunc(kept, func(r *request) bool {
			if r.flush {
				r.done(ErrFull)
			}
			return r.flush
		})
		select {
		case <-l.closing: // a stop does not wait for room: what is not written is done again after the next start
			l.refuse(kept, ErrFull)
			return nil
		default:
		}
		l.queue.putBack(kept)
		select {
		case <-time.After(l.opt.Linger):
		case <-l.closing:
		}
		return nil
	}
	return kept
}

// pack encodes the events of one stream into blocks.
func (c *commit) pack(w *writing) {
	first := w.events[0].events[0].Offset
	c.enc.reset()
	c.index, c.prev = blockIndex{topics: c.index.topics[:0]}, nil
	for _, a := range w.events {
		for i := range a.events {
			ev := &a.events[i]
			if c.enc.count > 0 && len(c.enc.buf)+len(ev.Payload)+len(ev.Topic)+len(ev.Client)+32 > BlockBytes {
				c.seal(w, first)
				first = ev.Offset
			}
			c.enc.add(ev)
			c.index.observe(ev, c.prev)
			c.prev = ev
		}
	}
	c.seal(w, first)
}

func (c *commit) seal(w *writing, first uint64) {
	if c.used == len(c.blocks) {
		c.blocks = append(c.blocks, nil)
	}
	block := sealBlock(c.blocks[c.used][:0], &c.enc, c.log.epoch, first)
	c.blocks[c.used] = block
	if cap(block) > 4*BlockBytes {
		c.blocks[c.used] = nil // a huge payload must not be kept for ever
	}
	c.used++
	c.index.bytes = uint64(len(block))
	g := &w.segment
	if g.Bytes > 0 && (g.Bytes >= w.limit || w.count > 0 && g.Next-g.First >= w.count) {
		summary, err := json.Marshal(*g)
		if err != nil {
			c.log.fail(err)
			return
		}
		c.entries = append(c.entries, keyValue{segmentKey(w.stream.id, g.Number), summary})
		w.sealed = append(w.sealed, *g)
		*g = segment{Number: g.Number + 1, First: first}
	}
	if g.Bytes == 0 {
		g.First = first
	}
	g.Bytes += uint64(len(block))
	g.Next = first + uint64(c.enc.count)
	g.Latest, g.At = c.index.latest, c.log.clock.uptimeNow()
	c.entries = append(c.entries,
		keyValue{blockKey(keyBlock, w.stream.id, g.Number, first), block},
		keyValue{blockKey(keyIndex, w.stream.id, g.Number, first), c.index.append(nil)})
	c.enc.reset()
	c.index, c.prev = blockIndex{topics: c.index.topics[:0]}, nil
}

// write puts the entries into one transaction and waits for the sync.
func (c *commit) write() error {
	if hook := c.log.opt.OnCommit; hook != nil {
		if err := hook(); err != nil {
			return err
		}
	}
	tx := c.log.db.NewTransaction(true)
	defer tx.Discard()
	for _, e := range c.entries {
		var err error
		if e.value == nil {
			err = tx.Delete(e.key)
		} else {
			err = tx.Set(e.key, e.value)
		}
		if errors.Is(err, badger.ErrTxnTooBig) {
			return fmt.Errorf("commit of %d keys: %w", len(c.entries), err)
		}
		if err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// lookAtFiles reserves disk space for files that Badger has begun, soon after
// it has begun them.
func (c *commit) lookAtFiles(size int64) {
	c.written += size
	if c.written < mebibyte {
		return
	}
	c.written = 0
	c.log.maps.advise(c.log.opt.Dir)
	c.log.allocate()
}

// allocate reserves disk space for files that Badger has begun. Without it
// the reserve alone must keep from a full disk.
func (l *Log) allocate() {
	err := l.space.allocate()
	if err != nil && !l.space.warned {
		l.opt.Logger.Warn("no disk space can be set aside for the store's next writes", "err", err)
	}
	l.space.warned = err != nil
}
