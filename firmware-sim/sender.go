package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// The times of a board that has no connection, by the clock of this machine.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
	steady     = 5 * time.Second  // a connection of this age ends the back-off
	patience   = 20 * time.Second // without the PUBACK that is due the link counts as broken
)

// sender has the messages of one board sent and acknowledged.
type sender struct {
	*simulation
	board *board
	out   *outbox
	rand  *rand.Rand
	retry time.Duration
}

func newSender(r *simulation, b *board, out *outbox) *sender {
	return &sender{simulation: r, board: b, out: out, retry: firstRetry, rand: rand.New(rand.NewPCG(r.Seed, uint64(b.boot)))}
}

// run connects and sends until the outbox has ended and is empty, or there is
// no more hope for it: ctx has ended and there is no connection, or hard has.
func (s *sender) run(ctx, hard context.Context) {
	defer func() { s.unsent.Add(s.out.unsent()) }()
	for hard.Err() == nil {
		wanted, through := s.out.state()
		if through {
			return
		}
		if !wanted {
			select {
			case <-s.out.changed:
			case <-hard.Done():
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		l, err := s.connect(ctx, hard)
		if err != nil {
			if ctx.Err() != nil || hard.Err() != nil {
				s.Counters.GivenUp.Add(1)
				return
			}
			s.Counters.Refusals.Add(1)
			s.troubled(s.board.name, err)
			s.backOff(ctx, hard)
			continue
		}
		since := time.Now()
		s.Counters.Connects.Add(1)
		s.Counters.Connected.Add(1)
		s.recovered(s.board.name)
		err = s.session(hard, l)
		s.Counters.Connected.Add(-1)
		if time.Since(since) >= steady {
			s.retry = firstRetry
		}
		if err != nil && hard.Err() == nil {
			s.Counters.Breaks.Add(1)
			s.troubled(s.board.name, err)
			s.backOff(ctx, hard)
		}
	}
}

// connect gives up when ctx ends, or when hard does: at the end of the plan.
func (s *sender) connect(ctx, hard context.Context) (*link, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(hard, cancel)()
	return s.dialer.connect(ctx, s.board)
}

// backOff waits up to the present step, at random so that the boards do not
// come back all at once, and doubles the step.
func (s *sender) backOff(ctx, hard context.Context) {
	timer := time.NewTimer(s.retry/2 + time.Duration(s.rand.Int64N(int64(s.retry/2))))
	defer timer.Stop()
	s.retry = min(2*s.retry, lastRetry)
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-hard.Done():
	}
}

// flight is a message that waits for its PUBACK.
type flight struct {
	item  *item
	token paho.Token
}

// acknowledged says whether the PUBACK is there. The token can be trusted only
// with the settings of [dialer.connect].
func (f flight) acknowledged() bool {
	select {
	case <-f.token.Done():
		return f.token.Error() == nil
	default:
		return false
	}
}

// session sends over one connection, in order and with a window. It ends with
// nil when the scenario ends or breaks the link; what is not acknowledged is
// back in the outbox then.
func (s *sender) session(hard context.Context, l *link) error {
	defer context.AfterFunc(hard, l.cut)() // a publish may be blocked in it
	u := uptime{board: s.board}
	s.out.greet(u.status(s.elapsed(), "online", LinkUp))
	var flying []flight
	defer func() {
		l.cut()
		var back []*item
		for _, f := range flying {
			if f.acknowledged() {
				s.confirm(f)
			} else {
				back = append(back, f.item)
			}
		}
		s.out.back(back)
	}()
	overdue := time.NewTimer(patience)
	defer overdue.Stop()
	fresh, last := true, false // nothing has been sent yet; nothing more is to be sent
	for {
		for len(flying) < s.Window && !last {
			if !fresh && s.out.greeting() {
				last = true // it belongs to the next connection
				break
			}
			i := s.out.take()
			if i == nil {
				break
			}
			if len(flying) == 0 {
				overdue.Reset(patience)
			}
			flying = append(flying, s.publish(l, i))
			fresh, last = false, i.Link == LinkDown
		}
		var first <-chan struct{}
		if len(flying) > 0 {
			first = flying[0].token.Done()
		}
		if wanted, _ := s.out.state(); !wanted || last && len(flying) == 0 {
			s.Counters.Cuts.Add(1)
			return nil
		}
		select {
		case <-first:
			if err := flying[0].token.Error(); err != nil {
				return err
			}
			done := flying[0]
			flying = flying[1:]
			overdue.Reset(patience)
			s.confirm(done)
			if done.item.Link == LinkDown {
				s.out.gone()
				l.leave()
				return nil
			}
		case <-overdue.C:
			if len(flying) > 0 {
				return errors.New("no PUBACK within " + patience.String())
			}
		case <-l.lost:
			return errors.New("the broker closed the connection")
		case <-s.out.changed:
		case <-hard.Done():
			return nil
		}
	}
}

func (s *sender) publish(l *link, i *item) flight {
	if i.sent {
		s.Counters.Resent.Add(1)
	} else {
		s.Counters.Published.Add(1)
	}
	i.sent = true
	return flight{i, l.client.Publish(i.Topic, 1, i.Retained, i.Payload)}
}

func (s *sender) confirm(f flight) {
	s.Counters.Acknowledged.Add(1)
	if s.Acknowledged != nil {
		s.Acknowledged(f.item.Message)
	}
}
