package broker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestAClientThatWaitsForEachAcknowledgementIsInAHurry(t *testing.T) {
	l := newFakeLog()
	c := connect(t, start(t, l, func(o *Options) { o.pace.behind = time.Hour }), v4, "a") // or it depends on the machine
	for i := range 50 {
		c.publish(pub{topic: "x", qos: 1, id: uint16(i + 1)})
		c.expect(puback(uint16(i + 1))...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.batches[0].Hurry {
		t.Error("the first message has no acknowledgement before it, and yet is in a hurry")
	}
	n := 0
	for _, b := range l.batches[1:] {
		if b.Hurry {
			n++
		}
	}
	if n != 50-hurryAfter {
		t.Errorf("%d of 49 messages were in a hurry", n)
	}
}

func TestAClientThatSendsAtItsOwnPaceIsInNoHurry(t *testing.T) {
	l := newFakeLog()
	l.byHand = true
	c := connect(t, start(t, l), v4, "a")
	c.publish(pub{topic: "x", qos: 1, id: 1})
	l.events(t, 1)
	c.publish(pub{topic: "x", qos: 1, id: 2})
	l.events(t, 2)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.batches[1].Hurry {
		t.Error("the second message is in a hurry")
	}
}

func TestAClientWhoseMessagesComeLaterThanRightBehindAnAcknowledgementIsInNoHurry(t *testing.T) {
	l := newFakeLog()
	c := connect(t, start(t, l, func(o *Options) { o.pace.behind = 1 }), v4, "a")
	for i := range 10 {
		c.publish(pub{topic: "x", qos: 1, id: uint16(i + 1)})
		c.expect(puback(uint16(i + 1))...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.ContainsFunc(l.batches, func(b Batch) bool { return b.Hurry }) {
		t.Error("a message is in a hurry")
	}
}

// committed commits like a log that waits for more if nobody is in a hurry,
// until stop is closed.
func (l *fakeLog) committed(linger time.Duration, stop <-chan struct{}) {
	var last time.Time
	for {
		l.mu.Lock()
		waiting := len(l.waiting) > 0
		hurry := waiting && slices.ContainsFunc(l.batches[len(l.batches)-len(l.waiting):], func(b Batch) bool { return b.Hurry })
		l.mu.Unlock()
		if waiting && (hurry || time.Since(last) >= linger) {
			l.commit(nil)
			l.commits++
			last = time.Now()
		}
		select {
		case <-time.After(100 * time.Microsecond): // what a commit takes
		case <-stop:
			return
		}
	}
}

func TestHowOftenIsCommittedForClientsThatWaitAndForOthers(t *testing.T) {
	const linger = 20 * time.Millisecond
	// Each publishes n messages, as the others of its kind do, and takes so many commits.
	for _, c := range []struct {
		name    string
		window  int           // unacknowledged at most
		pace    time.Duration // between messages
		n       int
		commits [2]int // least and most
	}{
		{name: "one at a time", window: 1, n: 20_000, commits: [2]int{19_000, 20_000}},
		{name: "twenty at a time", window: 20, n: 200_000, commits: [2]int{9_000, 15_000}},
		// 10 s, of which the first 2 are before anybody could know.
		{name: "2,000 a second", window: 500, pace: 500 * time.Microsecond, n: 20_000, commits: [2]int{400, 4_500}},
		{name: "300 a second", window: 500, pace: 3333 * time.Microsecond, n: 3_000, commits: [2]int{400, 1_100}},
	} {
		t.Run(c.name, virtually(func(t *testing.T) {
			l := newFakeLog()
			l.byHand = true
			cl := connect(t, start(t, l, virtual, func(o *Options) { o.pace = usualPace }), v4, "a")
			time.Sleep(unhurried) // the clock begins with a moment without hurry
			stop := make(chan struct{})
			go l.committed(linger, stop)
			free := make(chan struct{}, c.window)
			go func() {
				for range c.n {
					if first, _, err := cl.next(); err != nil || first != 0x40 {
						t.Errorf("got %x, %v, want PUBACK", first, err)
						return
					}
					<-free
				}
				close(stop)
			}()
			for i := range c.n {
				free <- struct{}{}
				cl.publish(pub{topic: "x", qos: 1, id: uint16(i%65535 + 1)})
				if c.pace > 0 {
					time.Sleep(c.pace)
				}
			}
			<-stop
			synctest.Wait()
			t.Logf("%d commits for %d messages", l.commits, c.n)
			if l.commits < c.commits[0] || l.commits > c.commits[1] {
				t.Errorf("%d commits for %d messages, want from %d to %d", l.commits, c.n, c.commits[0], c.commits[1])
			}
		}))
	}
}
