package forward_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
)

// bench is a forwarder between a cursor in memory and a scripted sink.
type bench struct {
	*forward.Forwarder
	cur  *sinktest.Cursor
	sink *sinktest.Sink
	logs *bytes.Buffer
}

func newBench(events int, o forward.Options) *bench {
	b := &bench{cur: sinktest.NewCursor("gw-1", "events"), sink: &sinktest.Sink{}, logs: &bytes.Buffer{}}
	b.cur.Append(sinktest.Events(1, events)...)
	o.Name = "cloud"
	o.Logger = slog.New(slog.NewTextHandler(b.logs, nil))
	b.Forwarder = forward.New(b.cur, b.sink, o)
	return b
}

// drain runs the forwarder until nothing is pending, or for d.
func (b *bench) drain(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	for b.cur.Pending() > 0 && ctx.Err() == nil {
		time.Sleep(max(10*time.Millisecond, d/10_000)) // virtual
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatalf("Run: %v", err)
	}
}

// checkAll asserts that every event was accepted once and in order, but those
// that became dead letters.
func (b *bench) checkAll(t *testing.T, events int, dead ...uint64) {
	t.Helper()
	var want, got, buried []uint64
	isDead := map[uint64]bool{}
	for _, o := range dead {
		isDead[o] = true
	}
	for o := uint64(1); o <= uint64(events); o++ {
		if !isDead[o] {
			want = append(want, o)
		}
	}
	for _, e := range b.sink.Accepted() {
		got = append(got, e.Offset)
	}
	if !slices.Equal(want, got) {
		t.Errorf("the far side accepted other events (-want +got):\n%s", cmp.Diff(want, got))
	}
	booked, _ := b.cur.Booked()
	for _, d := range booked.Dead {
		buried = append(buried, d.Event.Offset)
	}
	if diff := cmp.Diff(dead, buried); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	if booked.Delivered != len(want) || b.cur.Pending() != 0 {
		t.Errorf("booked %d delivered and %d pending, want %d and 0", booked.Delivered, b.cur.Pending(), len(want))
	}
	s := b.Status()
	if s.Sent != uint64(len(want)) || s.Refused != uint64(len(dead)) {
		t.Errorf("status counts %d sent and %d refused, want %d and %d", s.Sent, s.Refused, len(want), len(dead))
	}
}

func refuse(offsets ...uint64) func(context.Context, int, forward.Batch) error {
	return func(_ context.Context, _ int, b forward.Batch) error {
		for _, e := range b.Events {
			for _, o := range offsets {
				if e.Offset == o {
					return forward.Permanent(errors.New("400 bad event"))
				}
			}
		}
		return nil
	}
}

var errDown = errors.New("503 service unavailable")

func TestEverythingArrivesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1234, forward.Options{Limits: forward.Limits{Events: 100}})
		b.drain(t, time.Minute)
		b.checkAll(t, 1234)
		if n := len(b.sink.Attempts()); n != 13 {
			t.Errorf("%d sends, want 13 batches of at most 100", n)
		}
		s := b.Status()
		if s.State != forward.Idle || s.Batches != 13 || s.LastSuccess.IsZero() || s.Err != "" || s.Bytes == 0 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAFaultOfTheDestinationKeepsTheBatchHoweverLongItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(7, forward.Options{Limits: forward.Limits{Events: 10, Linger: time.Second}})
		start := time.Now()
		back := start.Add(7 * 24 * time.Hour)
		b.sink.Answer = func(context.Context, int, forward.Batch) error {
			if time.Now().Before(back) {
				return errDown
			}
			return nil
		}
		go func() {
			time.Sleep(time.Hour)
			b.cur.Append(sinktest.Events(8, 28)...) // must not change the batch that is being tried
		}()
		b.drain(t, 8*24*time.Hour)
		b.checkAll(t, 35)

		attempts := b.sink.Attempts()
		failed := 0
		for _, a := range attempts {
			if a.Err == nil {
				continue
			}
			failed++
			if a.First != 1 || a.Last != 7 {
				t.Fatalf("attempt sent %d–%d, want the same batch 1–7 again", a.First, a.Last)
			}
		}
		// Full jitter below 60 s pauses 30 s on average: about 20,160 a week.
		if failed < 15_000 || failed > 26_000 {
			t.Errorf("%d attempts in a week, want about 20,000", failed)
		}
		if warm := attempts[5].At.Sub(start); warm > 32*time.Second {
			t.Errorf("the sixth attempt came after %v, want the first ones soon", warm)
		}
		if n := strings.Count(b.logs.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings for one lasting fault, want 1:\n%s", n, b.logs)
		}
		if n := strings.Count(b.logs.String(), "level=INFO"); n != 1 {
			t.Errorf("%d lines on recovery, want 1:\n%s", n, b.logs)
		}
	})
}

func TestAnOutageDoesNotBecomeAHotLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1, forward.Options{Backoff: forward.Backoff{Base: 100 * time.Millisecond, Cap: time.Second}})
		b.sink.Answer = func(context.Context, int, forward.Batch) error { return errDown }
		b.drain(t, 10*time.Minute)
		attempts := b.sink.Attempts()
		for i := 1; i < len(attempts); i++ {
			if pause := attempts[i].At.Sub(attempts[i-1].At); pause < 10*time.Millisecond || pause > time.Second {
				t.Fatalf("pause %d is %v, want 10 ms to 1 s", i, pause)
			}
		}
		if n := len(attempts); n < 900 || n > 1600 {
			t.Errorf("%d attempts in 10 min, want about 1,200", n)
		}
	})
}

func TestRetryAfterIsHonored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1, forward.Options{})
		asked := []time.Duration{42 * time.Second, 41 * time.Second, 17 * time.Minute, 0}
		b.sink.Answer = func(_ context.Context, n int, _ forward.Batch) error {
			if n <= len(asked) {
				return fmt.Errorf("wrapped: %w", forward.RetryAfter(errors.New("429"), asked[n-1]))
			}
			return nil
		}
		b.drain(t, time.Hour)
		b.checkAll(t, 1)
		attempts := b.sink.Attempts()
		for i, want := range asked {
			got := attempts[i+1].At.Sub(attempts[i].At)
			if got < want || got > want+500*time.Millisecond {
				t.Errorf("pause after Retry-After %v was %v", want, got)
			}
		}
		if n := strings.Count(b.logs.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want 1: the time asked for is not news\n%s", n, b.logs)
		}
	})
}

func TestOnePoisonEventAmong100000IsTheOnlyDeadLetter(t *testing.T) {
	for poison, events := range map[uint64]int{
		1: 1000, 2: 1000, 250: 1000, 251: 1000, 500: 1000, 501: 1000, 1000: 1000,
		73_311: 100_000, 100_000: 100_000,
	} {
		t.Run(fmt.Sprintf("%d of %d", poison, events), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(events, forward.Options{})
				b.sink.Answer = refuse(poison)
				b.drain(t, time.Hour)
				b.checkAll(t, events, poison)
				if n := len(b.sink.Attempts()); n > events/500+12 {
					t.Errorf("%d sends, want at most %d batches and 12 more to find it", n, events/500)
				}
				booked, _ := b.cur.Booked()
				d := booked.Dead[0]
				if d.Reason != "refused" || d.Err != "400 bad event" || d.Attempts < 2 || d.First > d.Last || d.First == 0 {
					t.Errorf("dead letter %+v", d)
				}
			})
		})
	}
}

func TestPoisonAfterAnOutageAndAWrongTokenIsTheOnlyDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(20_000, forward.Options{})
		start := time.Now()
		poison := refuse(10_007)
		b.sink.Answer = func(ctx context.Context, n int, batch forward.Batch) error {
			switch since := time.Since(start); {
			case since < 5*time.Minute:
				return errDown
			case since < 5*time.Minute+10*time.Second:
				return errors.New("401 unauthorized")
			case n%7 == 0: // faults in the middle of narrowing down
				return errDown
			}
			return poison(ctx, n, batch)
		}
		b.drain(t, time.Hour)
		b.checkAll(t, 20_000, 10_007)
	})
}

func TestFindingAPoisonEventDoesNotWaitForMoreEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(100, forward.Options{Limits: forward.Limits{Events: 200, Linger: time.Hour}})
		b.sink.Answer = refuse(57)
		start := time.Now()
		b.drain(t, 24*time.Hour)
		b.checkAll(t, 100, 57)
		// Once for the batch, once for what is left of it behind the dead letter.
		if took := time.Since(start); took > 2*time.Hour+time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

func TestManyPoisonEventsAreFoundAndTheOthersArriveInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := []uint64{3, 4, 5, 99, 100, 101, 102, 350, 500}
		b := newBench(1000, forward.Options{Limits: forward.Limits{Events: 100}})
		b.sink.Answer = refuse(dead...)
		b.drain(t, time.Hour)
		b.checkAll(t, 1000, dead...)
	})
}

func TestADestinationThatRefusesEverythingDoesNotRushTheBacklogIntoDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(50_000, forward.Options{})
		b.sink.Answer = func(context.Context, int, forward.Batch) error {
			return forward.Permanent(errors.New("400 expected XML"))
		}
		b.drain(t, time.Minute)
		booked, _ := b.cur.Booked()
		if n := len(booked.Dead); n < 60 || n > 250 {
			t.Errorf("%d dead letters in a minute, want about two a second", n)
		}
		if n := strings.Count(b.logs.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings for one reason, want 1", n)
		}
	})
}

func TestABatchThatIsTooLargeIsHalvedAndGrowsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8000, forward.Options{Limits: forward.Limits{Events: 400}})
		limit := 150
		b.sink.Answer = func(_ context.Context, n int, batch forward.Batch) error {
			if n == 21 {
				limit = 10_000
				time.Sleep(11 * time.Minute) // a ceiling is remembered for ten
			}
			if len(batch.Events) > limit {
				return forward.TooLarge(errors.New("413"))
			}
			return nil
		}
		b.drain(t, time.Hour)
		b.checkAll(t, 8000)
		attempts := b.sink.Attempts()
		if a := attempts[:3]; a[0].Events != 400 || a[1].Events > 201 || a[2].Events > 101 || a[2].Err != nil {
			t.Errorf("first attempts %+v, want 400, 200 and 100 events", a)
		}
		refused := 0
		for _, a := range attempts[3:20] {
			if a.Err != nil {
				refused++
			}
		}
		if refused > 2 {
			t.Errorf("%d of 17 batches were too large again, want few", refused)
		}
		if a := attempts[len(attempts)-2]; a.Events < 350 {
			t.Errorf("a late batch has %d events, want it grown back to about 400", a.Events)
		}
		if len(attempts) > 60 {
			t.Errorf("%d sends", len(attempts))
		}
	})
}

func TestOneEventThatIsTooLargeIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0, forward.Options{})
		events := sinktest.Events(1, 1000)
		events[665].Payload = bytes.Repeat([]byte("x"), 300_000)
		b.cur.Append(events...)
		b.sink.Answer = func(_ context.Context, _ int, batch forward.Batch) error {
			size := 0
			for i := range batch.Events {
				size += batch.Events[i].Size()
			}
			if size > 200_000 {
				return forward.TooLarge(errors.New("413 at most 200 kB"))
			}
			return nil
		}
		b.drain(t, time.Hour)
		b.checkAll(t, 1000, 666)
		booked, _ := b.cur.Booked()
		if d := booked.Dead[0]; d.Reason != "too_large" || !strings.Contains(d.Err, "413") {
			t.Errorf("dead letter %q %q", d.Reason, d.Err)
		}
		if n := len(b.sink.Attempts()); n > 8 {
			t.Errorf("%d sends, want at most 8", n)
		}
	})
}

func TestRefusedPartsOfABatchAreDeadLettersAndTheRestIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(20, forward.Options{Limits: forward.Limits{Events: 10}})
		b.sink.Answer = func(_ context.Context, n int, _ forward.Batch) error {
			if n == 1 {
				return fmt.Errorf("bulk: %w", &forward.PartialError{Refused: map[int]error{
					2: errors.New("bad field"), 9: errors.New("too old"),
				}})
			}
			return nil
		}
		b.drain(t, time.Minute)
		b.checkAll(t, 20, 3, 10)
		booked, _ := b.cur.Booked()
		if booked.Dead[0].Err != "bad field" || booked.Dead[1].Err != "too old" {
			t.Errorf("dead letters %+v", booked.Dead)
		}
	})
}

func TestAPartialErrorAboutEventsThatWereNotSentLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(10, forward.Options{})
		b.sink.Answer = func(_ context.Context, n int, _ forward.Batch) error {
			if n == 1 {
				return &forward.PartialError{Refused: map[int]error{10: errors.New("which?")}}
			}
			return nil
		}
		b.drain(t, time.Minute)
		if n := len(b.sink.Attempts()); n != 2 {
			t.Errorf("%d sends, want the batch to be sent again", n)
		}
		if booked, _ := b.cur.Booked(); booked.Delivered != 10 || len(booked.Dead) != 0 {
			t.Errorf("booked %+v", booked)
		}
	})
}

func TestOnlySelectedTopicsAreSentAndTheOthersAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0, forward.Options{Topics: []string{"a/+", "b"}, Limits: forward.Limits{Events: 4}})
		var want []uint64
		for i := range 1000 {
			topic := []string{"x", "a/1", "y", "y/a/1", "b", "z"}[i*i%37%6]
			if i >= 100 && i < 500 {
				topic = "x" // whole batches of nothing
			}
			b.cur.Append(event.Event{Topic: topic, Payload: []byte("1")})
			if topic == "a/1" || topic == "b" {
				want = append(want, uint64(i+1))
			}
		}
		poison := want[len(want)/2]
		b.sink.Answer = refuse(poison)
		b.drain(t, time.Hour)
		var got []uint64
		for _, e := range b.sink.Accepted() {
			got = append(got, e.Offset)
		}
		booked, _ := b.cur.Booked()
		if len(booked.Dead) != 1 || booked.Dead[0].Event.Offset != poison {
			t.Fatalf("dead letters %+v, want offset %d", booked.Dead, poison)
		}
		want = append(want[:len(want)/2], want[len(want)/2+1:]...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("accepted (-want +got):\n%s", diff)
		}
		if booked.Filtered != 1000-len(want)-1 || b.Status().Filtered != uint64(booked.Filtered) {
			t.Errorf("%d filtered, want %d", booked.Filtered, 1000-len(want)-1)
		}
	})
}

// checkTaken asserts that of the events [from, to] that retention took what was
// handed out was delivered, two batches of ten at most, and the rest was not,
// and that delivery went on behind them.
func checkTaken(t *testing.T, b *bench, from, to uint64, dead int) {
	t.Helper()
	late, on := 0, false
	for _, e := range b.sink.Accepted() {
		if e.Offset >= from && e.Offset <= to {
			late++
		}
		on = on || e.Offset == to+1
	}
	booked, _ := b.cur.Booked()
	if late < 10 || late > 20 || !on || b.cur.Taken() != int(to-from)+1-late || booked.Delivered+b.cur.Taken() != 100 || dead != 0 {
		t.Errorf("%d of the events %d to %d were delivered late, went on behind them: %v; booked %d delivered, %d taken, %d dead letters",
			late, from, to, on, booked.Delivered, b.cur.Taken(), dead)
	}
}

func TestWhatRetentionTakesWhileTheDestinationIsAwayIsDeliveredIfItWasHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(100, forward.Options{Limits: forward.Limits{Events: 10}})
		b.sink.Answer = func(ctx context.Context, n int, batch forward.Batch) error {
			switch {
			case n == 2: // refused, then away while it would be narrowed down
				return forward.Permanent(errors.New("400"))
			case n == 4:
				b.cur.Skip(35)
				return errDown
			case n > 2 && n < 6:
				return errDown
			}
			return nil
		}
		b.drain(t, time.Hour)
		booked, _ := b.cur.Booked()
		checkTaken(t, b, 11, 45, len(booked.Dead))
	})
}

func TestRetentionMayTakeABatchThatTheFarSideIsAccepting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(100, forward.Options{Limits: forward.Limits{Events: 10}})
		b.sink.Answer = func(_ context.Context, n int, _ forward.Batch) error {
			if n == 2 {
				b.cur.Skip(25)
			}
			return nil
		}
		b.drain(t, time.Hour)
		checkTaken(t, b, 11, 35, 0)
	})
}

func TestASilentDestinationIsTimedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(5, forward.Options{Timeout: 3 * time.Second})
		b.sink.Answer = func(ctx context.Context, n int, _ forward.Batch) error {
			if n == 1 {
				<-ctx.Done()
				return forward.Permanent(ctx.Err()) // even if a sink blames the events
			}
			if s := b.Status(); s.State != forward.Retrying || s.Attempts != 1 || !strings.Contains(s.Err, "no answer within 3s") {
				t.Errorf("while the batch is sent again the status is %+v", s)
			}
			return nil
		}
		b.drain(t, time.Minute)
		b.checkAll(t, 5)
	})
}

func TestABatchThatIsTooMuchForTheLinkShrinksUntilItPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(2000, forward.Options{Timeout: 3 * time.Second, Limits: forward.Limits{Events: 1000}})
		b.sink.Answer = func(ctx context.Context, n int, batch forward.Batch) error {
			select {
			case <-time.After(time.Duration(len(batch.Events)) * 50 * time.Millisecond): // 20 events a second
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		b.drain(t, time.Hour)
		b.checkAll(t, 2000)
		attempts := b.sink.Attempts()
		if a := attempts[:2]; a[0].Events != 500 || a[1].Events != 500 {
			t.Errorf("the first attempts had %d and %d events, want the same batch twice", a[0].Events, a[1].Events)
		}
		late := 0
		for _, a := range attempts {
			if a.Err != nil {
				late++
			}
		}
		if late > 12 {
			t.Errorf("%d of %d attempts took too long", late, len(attempts))
		}
	})
}

func TestBatchesGrowUnderABacklogWhileAnswersComeQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(60_000, forward.Options{Limits: forward.Limits{Events: 5000, Bytes: 8 << 20}})
		largest := 0
		b.sink.Answer = func(_ context.Context, n int, batch forward.Batch) error {
			largest = max(largest, len(batch.Events))
			time.Sleep(100 * time.Millisecond)
			return nil
		}
		b.drain(t, time.Hour)
		b.checkAll(t, 60_000)
		if first := b.sink.Attempts()[0].Events; first != 500 || largest != 5000 {
			t.Errorf("batches grew from %d to %d events, want 500 to 5000", first, largest)
		}
	})
}

func TestShutdownLetsTheAttemptInFlightFinishButStartsNoOther(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes time.Duration // what the attempt needs after ctx has ended
		ends  time.Duration // when Run returns
		want  int           // events booked as delivered
	}{
		{"finishes in time", 4 * time.Second, 4 * time.Second, 10},
		{"is cut off at the deadline", time.Hour, 5 * time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(20, forward.Options{Limits: forward.Limits{Events: 10}, Grace: 5 * time.Second, Timeout: 2 * time.Hour})
				b.sink.Answer = func(ctx context.Context, _ int, _ forward.Batch) error {
					select {
					case <-time.After(time.Second + c.takes):
						return nil
					case <-ctx.Done():
						return forward.Permanent(ctx.Err())
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- b.Run(ctx) }()
				time.Sleep(time.Second)
				if s := b.Status(); s.State != forward.Sending {
					t.Errorf("state %q, want sending", s.State)
				}
				cancel()
				stopped := time.Now()
				if err := <-done; err != nil {
					t.Errorf("Run: %v", err)
				}
				if took := time.Since(stopped); took != c.ends {
					t.Errorf("Run returned %v after ctx ended, want %v", took, c.ends)
				}
				booked, _ := b.cur.Booked()
				if booked.Delivered != c.want || len(booked.Dead) != 0 || len(b.sink.Attempts()) != 1 {
					t.Errorf("booked %+v in %d attempts", booked, len(b.sink.Attempts()))
				}
			})
		})
	}
}

func TestShutdownEndsAPauseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1, forward.Options{})
		b.sink.Answer = func(context.Context, int, forward.Batch) error {
			return forward.RetryAfter(errDown, time.Hour)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		time.Sleep(time.Minute)
		s := b.Status()
		if wait := time.Until(s.NextAttempt); s.State != forward.Retrying || wait < 59*time.Minute || wait > time.Hour {
			t.Errorf("state %q, next attempt in %v", s.State, wait)
		}
		cancel()
		synctest.Wait()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		default:
			t.Error("Run still pauses")
		}
	})
}

func TestAFaultOfTheLogEndsRunAndIsNotBlamedOnTheDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("sync failed")
		b := newBench(10, forward.Options{})
		b.sink.Answer = func(context.Context, int, forward.Batch) error {
			b.cur.Fail(broken) // the position cannot be moved after the far side accepted
			return nil
		}
		err := b.Run(t.Context())
		var log *forward.CursorError
		if !errors.As(err, &log) || !errors.Is(err, broken) {
			t.Fatalf("Run: %v", err)
		}
		if s := b.Status(); s.Err != "" || s.Sent != 0 {
			t.Errorf("status %+v", s)
		}
		b.cur.Fail(nil)
		b.cur.Rewind()
		b.sink.Answer = nil
		b.Forwarder = forward.New(b.cur, b.sink, forward.Options{})
		b.drain(t, time.Minute)
		if booked, _ := b.cur.Booked(); booked.Delivered != 10 { // at least once
			t.Errorf("after the fault %d were delivered", booked.Delivered)
		}
	})
}

func TestDeadLettersSayHowOftenAndSinceWhenTheyWereTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(8, forward.Options{})
		start := event.At(time.Now())
		poison := refuse(8)
		b.sink.Answer = func(ctx context.Context, n int, batch forward.Batch) error {
			if n <= 3 {
				return errDown
			}
			return poison(ctx, n, batch)
		}
		b.drain(t, time.Hour)
		b.checkAll(t, 8, 8)
		booked, _ := b.cur.Booked()
		d := booked.Dead[0]
		// Three outages and the first refusal of 1–8, then 8 alone.
		if d.Attempts != 5 || d.First != start || d.Last <= d.First {
			t.Errorf("dead letter: %d attempts, first %v (start %v), last %v", d.Attempts, d.First, start, d.Last)
		}
	})
}

func TestARateIsKeptAndItsBatchesAreSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1000, forward.Options{Rate: 100})
		start := time.Now()
		b.drain(t, time.Hour)
		b.checkAll(t, 1000)
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("1000 events at 100 a second took %v", took)
		}
		for _, a := range b.sink.Attempts() {
			if a.Events > 25 {
				t.Fatalf("a batch has %d events, a quarter of a second's", a.Events)
			}
		}
	})
}

func TestForwardersThatShareSlotsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots, under, most := forward.NewSlots(1), 0, 0
		answer := func(context.Context, int, forward.Batch) error {
			under++
			most = max(most, under)
			time.Sleep(time.Second)
			under--
			return nil
		}
		sink := &sinktest.Sink{Answer: answer}
		replayed, live := sinktest.NewCursor("gw", "events"), sinktest.NewCursor("gw", "events")
		replayed.Append(sinktest.Events(1, 100_000)...)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		for _, c := range []*sinktest.Cursor{replayed, live} {
			f := forward.New(c, sink, forward.Options{Slots: slots})
			go func() { done <- f.Run(ctx) }()
		}
		for range 20 {
			time.Sleep(1300 * time.Millisecond)
			live.Append(sinktest.Events(1, 1)...)
			begin := time.Now()
			for live.Pending() > 0 {
				time.Sleep(10 * time.Millisecond)
			}
			if took := time.Since(begin); took > 2100*time.Millisecond {
				t.Errorf("a live event took %v: more than one batch of the other was before it", took)
			}
		}
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Error(err)
		}
		if most != 1 {
			t.Errorf("%d batches were under way at a time", most)
		}
	})
}

func TestABatchThatAloneCannotPassHoldsUpItsOwnKeysOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0, forward.Options{Requests: 4, Limits: forward.Limits{Events: 50}})
		for i := range 2000 {
			b.cur.Append(event.Event{Topic: fmt.Sprint("t/", i%16)})
		}
		bad := func(e *event.Event) bool { return e.Topic == "t/3" && e.Offset > 200 }
		b.sink.Answer = func(_ context.Context, _ int, batch forward.Batch) error {
			time.Sleep(20 * time.Millisecond)
			if slices.ContainsFunc(batch.Events, func(e event.Event) bool { return bad(&e) }) {
				return errDown
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := b.Run(ctx); err != nil {
			t.Fatal(err)
		}
		// As much as the window holds behind the first bad event.
		passed := 0
		for _, e := range b.sink.Accepted() {
			if bad(&e) {
				t.Fatalf("event %d passed", e.Offset)
			}
			if e.Offset > 250 {
				passed++
			}
		}
		if passed < 150 {
			t.Errorf("%d events of other keys passed in 30 s", passed)
		}
	})
}

func TestWhenTheDestinationIsAwayItIsAskedWithOneRequestAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0, forward.Options{Requests: 4, Limits: forward.Limits{Events: 50}})
		for i := range 2000 {
			b.cur.Append(event.Event{Topic: fmt.Sprint("t/", i%16)})
		}
		start := time.Now()
		var under atomic.Int32
		b.sink.Answer = func(_ context.Context, n int, batch forward.Batch) error {
			now := under.Add(1)
			defer under.Add(-1)
			if n > 4 && now > 1 && time.Since(start) < time.Hour {
				t.Errorf("attempt %d is the %d. at a time", n, now)
			}
			time.Sleep(20 * time.Millisecond)
			if time.Since(start) < time.Hour {
				return errDown
			}
			return nil
		}
		b.drain(t, 2*time.Hour)
		if got := len(b.sink.Accepted()); got != 2000 {
			t.Errorf("%d of 2000 events arrived", got)
		}
		// With pauses of up to a minute about 120 attempts in an hour.
		if n := len(b.sink.Attempts()); n > 300 {
			t.Errorf("%d attempts", n)
		}
	})
}
