//go:build prove

package prove

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/gateway/bench"
)

// publisher is one MQTT client with numbered messages at QoS 1, unless told
// otherwise: it keeps a window
// of them outstanding, reconnects when the broker goes, and sends again, in
// order and under their old identifiers, those that were not acknowledged.
type publisher struct {
	addr    string
	number  int
	window  int
	rate    int    // messages a second; 0 = as fast as they are acknowledged
	total   int    // ends after so many; 0 = when told to stop
	version byte   // 4 or 5
	exactly bool   // QoS 2: a message counts as acknowledged with its PUBREC
	mixed   bool   // QoS 1 and 2 by turns
	pad     []byte // goes into the payload as "pad"
	poison  int    // every so many messages is poison; 0 for none
	onAck   func(n int)

	stopped  atomic.Bool
	flap     atomic.Bool // to drop the connection once
	mu       sync.Mutex
	acked    []bool // by number
	count    int    // how many are acknowledged
	refused  int    // acknowledgements with an error code
	disorder int    // acknowledgements that were not for the oldest message
	lost     int    // connections lost
}

type outstanding struct {
	n  int
	id uint16
}

// temperature is the reading in message n of publisher p.
func temperature(p, n int) float64 { return float64((n*37+p*11)%1000) / 10 }

func (p *publisher) topic() string { return fmt.Sprintf("plant/%d/temp", p.number) }

// qos is that of message n.
func (p *publisher) qos(n int) byte {
	if p.exactly || p.mixed && n%2 == 1 {
		return 2
	}
	return 1
}

func (p *publisher) payload(n int) []byte {
	b := fmt.Appendf(nil, `{"device":"d%d","p":%d,"n":%d,"temperature":%.1f`, p.number, p.number, n, temperature(p.number, n))
	if p.poison > 0 && n%p.poison == p.poison-1 {
		b = append(b, `,"poison":true`...)
	}
	if p.pad != nil {
		b = append(b, `,"pad":"`...)
		b = append(b, p.pad...)
		b = append(b, '"')
	}
	return append(b, '}')
}

// run publishes until it is done or ctx ends. It is done when all messages
// that it began to send are acknowledged, after stop or its total.
func (p *publisher) run(ctx context.Context) {
	var open []outstanding
	next := 0
	first := true
	for ctx.Err() == nil {
		login := bench.Login{ClientID: fmt.Sprintf("prove-%d", p.number), Version: p.version, Keep: true}
		c, _, err := bench.Dial(ctx, p.addr, login)
		if err == nil {
			done := p.session(ctx, c, &open, &next, !first)
			c.Close()
			if done {
				return
			}
			first = false
			p.mu.Lock()
			p.lost++
			p.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop lets run end once all is acknowledged.
func (p *publisher) stop() { p.stopped.Store(true) }

// session publishes over one connection and reports whether the work is done.
func (p *publisher) session(ctx context.Context, c *net.TCPConn, open *[]outstanding, next *int, again bool) (done bool) {
	var out, in []byte
	if again {
		for _, o := range *open {
			out = bench.AppendPublish(out, p.version, p.topic(), p.payload(o.n), p.qos(o.n), o.id, true)
		}
	}
	end := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer end()
	begin, base := time.Now(), *next
	buf := make([]byte, 16<<10)
	for {
		for len(*open) < p.window && p.wants(*next) && (p.rate == 0 || *next-base <= int(time.Since(begin).Seconds()*float64(p.rate))) {
			o := outstanding{*next, uint16(*next%60000) + 1}
			out = bench.AppendPublish(out, p.version, p.topic(), p.payload(o.n), p.qos(o.n), o.id, false)
			*open = append(*open, o)
			*next++
		}
		if len(*open) == 0 && !p.wants(*next) {
			c.Write([]byte{0xE0, 0})
			return true
		}
		if ctx.Err() != nil || p.flap.Swap(false) {
			return false
		}
		if len(out) > 0 {
			c.SetWriteDeadline(time.Now().Add(20 * time.Second))
			if _, err := c.Write(out); err != nil {
				return false
			}
			out = out[:0]
		}
		wait := 20 * time.Second
		if p.rate > 0 || !p.wants(*next) || len(*open) == 0 {
			wait = 5 * time.Millisecond
		}
		c.SetReadDeadline(time.Now().Add(wait))
		k, err := c.Read(buf)
		if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || wait > time.Second) {
			return false
		}
		in = append(in, buf[:k]...)
		for {
			first, body, rest, ok, err := bench.NextPacket(in)
			if err != nil {
				return false
			}
			if !ok {
				break
			}
			if first == 0x40 || first == 0x50 {
				a, err := bench.ParseAck(body)
				if err != nil || !p.take(a, open) {
					return false
				}
				if first == 0x50 {
					out = append(out, 0x62, 2, byte(a.ID>>8), byte(a.ID))
				}
			}
			in = rest
		}
	}
}

// wants reports whether message n is still to be sent.
func (p *publisher) wants(n int) bool { return !p.stopped.Load() && (p.total == 0 || n < p.total) }

// take books an acknowledgement. False ends the connection: the message was
// refused and is sent again later.
func (p *publisher) take(a bench.Ack, open *[]outstanding) bool {
	at := -1
	for i, o := range *open {
		if o.id == a.ID {
			at = i
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at < 0 {
		p.disorder++
		return true
	}
	if a.Code >= 0x80 {
		p.refused++
		return false
	}
	if at > 0 {
		p.disorder++
	}
	n := (*open)[at].n
	*open = append((*open)[:at], (*open)[at+1:]...)
	for len(p.acked) <= n {
		p.acked = append(p.acked, false)
	}
	if !p.acked[n] {
		p.acked[n] = true
		p.count++
	}
	if p.onAck != nil {
		p.onAck(n)
	}
	return true
}

func (p *publisher) ackedCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// fleet is several publishers at work.
type fleet struct {
	publishers []*publisher
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// publish starts n publishers, each made by the given function.
func publish(n int, make func(i int) *publisher) *fleet {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fleet{cancel: cancel}
	for i := range n {
		p := make(i)
		f.publishers = append(f.publishers, p)
		f.wg.Go(func() { p.run(ctx) })
	}
	return f
}

// finish tells the publishers to stop and waits until all that they sent is
// acknowledged.
func (f *fleet) finish(limit time.Duration) error {
	for _, p := range f.publishers {
		p.stop()
	}
	return f.wait(limit)
}

// wait waits until all publishers are done.
func (f *fleet) wait(limit time.Duration) error {
	done := make(chan struct{})
	go func() { f.wg.Wait(); close(done) }()
	defer f.cancel()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		f.cancel()
		<-done
		return fmt.Errorf("publishers: not all messages were acknowledged within %v: %d are", limit, f.acked())
	}
}

func (f *fleet) acked() (n int) {
	for _, p := range f.publishers {
		n += p.ackedCount()
	}
	return n
}

func (f *fleet) disorder() (n int) {
	for _, p := range f.publishers {
		n += p.disorder
	}
	return n
}
