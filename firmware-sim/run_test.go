package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// simulate runs a scenario against b in a bubble, where time is virtual.
func simulate(t *testing.T, ctx context.Context, b *fakeBroker, o Options) (Stats, error) {
	t.Helper()
	o.Broker, o.Dial = "tcp://broker", b.dial
	if o.Start.IsZero() {
		o.Start = monday
	}
	s, err := Run(ctx, o)
	b.open.Wait() // for what boards did last
	return s, err
}

// readingsOf returns the readings that came from one client, in their order.
func (b *fakeBroker) readingsOf(id string) []string {
	var list []string
	for _, r := range b.got[id] {
		if !r.retained {
			list = append(list, r.topic+" "+r.payload)
		}
	}
	return list
}

func TestTheBrokerGetsExactlyTheSequenceOfTheFleet(t *testing.T) {
	faults, err := Load("testdata/faults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, speed := range map[string]float64{"in time": 1, "ten times as fast": 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, began := newFakeBroker(t), time.Now()
				stats, err := simulate(t, t.Context(), b, Options{Scenario: faults, For: time.Minute, Speed: speed})
				if err != nil {
					t.Fatal(err)
				}
				if took, want := time.Since(began), time.Duration(60/speed)*time.Second; took < want || took > want+time.Second {
					t.Errorf("took %v, want %v", took, want)
				}
				fleet := faults.Fleet(faults.Seed, monday, 0)
				published, breaks := int64(0), 0
				for i := range fleet.Len() {
					var want []received
					wills := 0
					up := false
					for _, m := range during(fleet.Board(i), time.Minute) {
						if up = m.Link != LinkDown && (up || m.Link == LinkUp); m.Link == LinkDropped {
							wills, up = wills+1, false
							continue
						}
						want = append(want, received{m.Topic, string(m.Payload), m.Retained})
					}
					board := fleet.boards[i]
					if up {
						u := uptime{board: board}
						m := u.status(time.Minute, "offline", LinkDown)
						want = append(want, received{m.Topic, string(m.Payload), true})
					}
					if diff := cmp.Diff(want, b.got[board.id], cmp.AllowUnexported(received{})); diff != "" {
						t.Errorf("%s (-fleet +broker):\n%s", board.name, diff)
					}
					if got := b.wills[board.prefix+"status"]; got != wills {
						t.Errorf("%s: %d wills, want %d", board.name, got, wills)
					}
					published, breaks = published+int64(len(want)), breaks+wills
				}
				if breaks == 0 {
					t.Error("no link broke: the test shows less than it should")
				}
				if stats.Published != published || stats.Acknowledged != published || stats.Resent+stats.Breaks+stats.Unsent != 0 || stats.Cuts != int64(breaks) {
					t.Errorf("stats %+v, want %d published", stats, published)
				}
			})
		})
	}
}

const oneBoard = "boards: [{name: b, area: a, buffer: 20, sensors: [{kind: humidity, every: 100ms}, {kind: temperature, every: 1s}]}]"

func TestABrokerThatHangsUpOrStallsGetsEveryReadingInOrder(t *testing.T) {
	for name, what := range map[string]answer{"hangs up": hangUp, "loses PUBACKs": lose, "stalls": stall} {
		times := map[answer]int{hangUp: 6, lose: 6, stall: 3}[what] // a board waits long for a PUBACK
		t.Run(name, func(t *testing.T) {
			s := scenario(t, oneBoard)
			s.Boards[0].Buffer = 10_000
			synctest.Test(t, func(t *testing.T) {
				b := newFakeBroker(t)
				n := 0
				b.answer = func(*packets.PublishPacket) answer {
					if n++; n%37 == 0 && n <= 37*times {
						return what
					}
					return acknowledge
				}
				var mu sync.Mutex
				confirmed := 0
				stats, err := simulate(t, t.Context(), b, Options{Scenario: s, For: 2 * time.Minute, Acknowledged: func(Message) { mu.Lock(); confirmed++; mu.Unlock() }})
				if err != nil {
					t.Fatal(err)
				}
				if stats.Unacknowledged() != 0 || stats.Unsent != 0 || stats.Dropped != 0 || int64(confirmed) != stats.Acknowledged {
					t.Errorf("stats %+v, %d confirmed", stats, confirmed)
				}
				if stats.Resent == 0 || stats.Breaks != int64(times) {
					t.Errorf("nothing was tried: %+v", stats)
				}
				want := map[string]bool{}
				for _, m := range during(s.Fleet(1, monday, 0).All(), 2*time.Minute) {
					if !m.Retained {
						want[m.Topic+" "+string(m.Payload)] = true
					}
				}
				seqs := map[string]int{}
				for _, r := range b.got["plant-b"] {
					if r.retained {
						continue
					}
					delete(want, r.topic+" "+r.payload)
					var p struct{ Seq int }
					if err := json.Unmarshal([]byte(r.payload), &p); err != nil {
						t.Fatal(err)
					}
					if p.Seq > seqs[r.topic]+1 {
						t.Fatalf("%s: %d came after %d", r.topic, p.Seq, seqs[r.topic])
					}
					seqs[r.topic] = max(seqs[r.topic], p.Seq)
				}
				if len(want) != 0 {
					t.Errorf("%d readings have never come", len(want))
				}
			})
		})
	}
}

func TestNoMoreThanTheWindowIsUnacknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFakeBroker(t)
		b.answer = func(*packets.PublishPacket) answer { return stall }
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		stats, err := simulate(t, ctx, b, Options{Scenario: scenario(t, oneBoard), Window: 5})
		if err != nil {
			t.Fatal(err)
		}
		if n := b.stalled; n != 5 || stats.Published != 5 || stats.Acknowledged != 0 || stats.Unacknowledged() != 5 {
			t.Errorf("%d came, stats %+v", n, stats)
		}
		// Twice the buffer and the window wait, and the goodbye.
		if stats.Unsent != 2*20+5+1 || stats.Dropped == 0 {
			t.Errorf("%d unsent, %d dropped, want 46 and some", stats.Unsent, stats.Dropped)
		}
	})
}

func TestABrokerThatIsAwayCostsOnlyWhatTheBufferCannotHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, began := newFakeBroker(t), time.Now()
		b.refuse = func(int) bool { return time.Since(began) < 5*time.Minute }
		var log bytes.Buffer
		stats, err := simulate(t, t.Context(), b, Options{
			Scenario: scenario(t, oneBoard), For: 6 * time.Minute,
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if stats.Unacknowledged() != 0 || stats.Unsent != 0 || stats.Dropped < 3200 {
			t.Errorf("stats %+v", stats)
		}
		due := int64(0)
		for _, m := range during(scenario(t, oneBoard).Fleet(1, monday, 0).All(), 6*time.Minute) {
			if !m.Retained {
				due++
			}
		}
		if got := int64(len(b.readingsOf("plant-b"))); got != due-stats.Dropped {
			t.Errorf("%d readings came, %d were due and %d dropped", got, due, stats.Dropped)
		}
		// Steps grow to 30 s, each between half and whole.
		gap := time.Duration(0)
		for i := 1; i < len(b.dials); i++ {
			gap = b.dials[i].Sub(b.dials[i-1])
			step := min(firstRetry<<(i-1), lastRetry)
			if gap < step/2 || gap > step {
				t.Errorf("attempt %d came after %v, want %v to %v", i+1, gap, step/2, step)
			}
		}
		if gap < lastRetry/2 {
			t.Errorf("the last step was %v", gap)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "again") {
			t.Errorf("the log has %d lines, want one for away and one for back:\n%s", n, log.String())
		}
	})
}

func TestBoardsDoNotComeBackAllAtOnce(t *testing.T) {
	s := scenario(t, "boards: [{name: b, area: a, count: 30, sensors: [{kind: humidity}]}]")
	synctest.Test(t, func(t *testing.T) {
		b, began := newFakeBroker(t), time.Now()
		b.refuse = func(int) bool { return time.Since(began) > 10*time.Second }
		time.AfterFunc(10*time.Second+time.Nanosecond, b.fail)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		stats, err := simulate(t, ctx, b, Options{Scenario: s})
		if err != nil || stats.Connects != 30 || stats.Breaks != 30 || stats.Refusals < 100 {
			t.Fatalf("stats %+v, error %v", stats, err)
		}
		at := map[time.Time]int{}
		for _, d := range b.dials[30:] {
			at[d.Truncate(100*time.Millisecond)]++
		}
		for d, n := range at {
			if d.Sub(began) > 12*time.Second && n > 12 {
				t.Errorf("%d of 30 boards tried within 100ms", n)
			}
		}
	})
}

func TestABrokerThatIsNeverThereIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFakeBroker(t)
		b.refuse = func(int) bool { return true }
		stats, err := simulate(t, t.Context(), b, Options{Scenario: scenario(t, oneBoard), For: time.Minute})
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "tcp://broker") || stats.Published != 0 {
			t.Errorf("error %v, stats %+v", err, stats)
		}
	})
}

func TestABrokerThatRefusesTheUserIsNamedAsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFakeBroker(t)
		b.code = packets.ErrRefusedNotAuthorised
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		stats, err := simulate(t, ctx, b, Options{Scenario: scenario(t, oneBoard)})
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(strings.ToLower(err.Error()), "not authori") || stats.Refusals == 0 {
			t.Errorf("error %v, stats %+v", err, stats)
		}
	})
}

func TestWhenTheContextEndsBoardsSayGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, counters := newFakeBroker(t), &Counters{}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(25*time.Second, func() {
			if n := counters.Connected.Load(); n != 8 {
				t.Errorf("%d of 8 boards connected", n)
			}
			cancel()
		})
		began := time.Now()
		stats, err := simulate(t, ctx, b, Options{Counters: counters}) // the plant
		if err != nil || stats.Boards != 8 || stats.Unacknowledged() != 0 || stats.Unsent != 0 {
			t.Errorf("stats %+v, error %v", stats, err)
		}
		if took := time.Since(began); took > 26*time.Second {
			t.Errorf("took %v to stop", took-25*time.Second)
		}
		for id, list := range b.got {
			if last := list[len(list)-1]; !strings.HasPrefix(last.payload, `{"state":"offline"`) || !last.retained {
				t.Errorf("%s ends with %+v", id, last)
			}
		}
		delete(b.wills, "plant/yard/gate-1/status") // its faults are part of the scenario
		if n := counters.Connected.Load(); len(b.got) != 8 || len(b.wills) != 0 || n != 0 {
			t.Errorf("%d boards, wills %v, %d still connected", len(b.got), b.wills, n)
		}
	})
}

func TestOptionsThatCannotWorkAreRefusedAtOnce(t *testing.T) {
	for broker, want := range map[string]string{
		"":                          "give tcp://",
		"127.0.0.1:1883":            "give tcp://",
		"ws://host":                 `cannot speak "ws"`,
		"ftp://user:secret@example": "ftp://user:xxxxx@example",
	} {
		if _, err := Run(t.Context(), Options{Broker: broker}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", broker, err, want)
		}
	}
	if _, err := Run(t.Context(), Options{Broker: "tcp://host", Speed: -1}); err == nil {
		t.Error("a negative speed is taken")
	}
}

// At great speed a break may be over before the board has noticed it.
func TestNoBreakIsTooShortToHappen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFakeBroker(t)
		d, err := newDialer(Options{Broker: "tcp://broker", Dial: b.dial})
		if err != nil {
			t.Fatal(err)
		}
		r := &simulation{Options: Options{Window: 16, Speed: 1, Counters: &Counters{}}, dialer: d, began: time.Now(), start: monday, fleet: scenario(t, oneBoard).Fleet(1, monday, 0)}
		board := r.fleet.boards[0]
		u, out := uptime{board: board}, newOutbox(100, &r.Counters.Dropped)
		for range 3 {
			out.put(u.status(0, "online", LinkUp))
			out.put(board.message(0, "humidity"))
			out.put(board.will(0))
		}
		out.put(u.status(0, "online", LinkUp))
		out.end(u.status(0, "offline", LinkDown))
		newSender(r, board, out).run(t.Context(), t.Context())
		b.open.Wait()
		if c := r.Counters; c.Cuts.Load() != 3 || c.Connects.Load() != 4 || b.wills["plant/a/b/status"] != 3 || len(b.got["plant-b"]) != 8 {
			t.Errorf("%d cuts, %d connections, %d wills, %d messages", c.Cuts.Load(), c.Connects.Load(), b.wills["plant/a/b/status"], len(b.got["plant-b"]))
		}
	})
}
