package ingest

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"holdfast/gateway/event"
)

// background sends a request and delivers its answer.
func background(t *testing.T, s *Server, q request) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		a, err := try(s, q)
		if err != nil {
			t.Error(err)
		}
		answers <- a
	}()
	return answers
}

func TestWhatTheLogHasTakenIsAnsweredWhileStopping(t *testing.T) {
	m := &memory{}
	emitted := make(chan func(error), 1)
	m.emit = func(_ context.Context, _ []event.Event, done func(error)) error { emitted <- done; return nil }
	s := start(t, m, Options{})
	answers := background(t, s, request{path: "/a"})
	done := <-emitted
	s.StopIntake()
	if a := send(t, s, request{path: "/b"}); a.Status != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("a request after the stop: %+v", a)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close(t.Context()) }()
	select {
	case err := <-closed:
		t.Fatalf("closed with %v before the request was answered", err)
	case a := <-answers:
		t.Fatalf("answered before the commit: %+v", a)
	case <-time.After(20 * time.Millisecond): // long enough for either, if it could happen
	}
	done(nil)
	if a := <-answers; a.Status != 200 {
		t.Errorf("what was taken is answered with %+v", a)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := try(s, request{path: "/c"}); err == nil {
		t.Error("a closed server answers")
	}
}

func TestWhatWaitsForRoomIsRefusedAtTheStop(t *testing.T) {
	waiting := make(chan struct{})
	m := &memory{emit: func(ctx context.Context, _ []event.Event, _ func(error)) error {
		close(waiting)
		<-ctx.Done()
		return ctx.Err()
	}}
	s := start(t, m, Options{Patience: time.Hour})
	answers := background(t, s, request{path: "/a"})
	<-waiting
	s.StopIntake()
	if a := <-answers; a.Status != 503 {
		t.Errorf("%+v", a)
	}
}

func TestABodyThatIsStillArrivingDoesNotHoldUpTheStop(t *testing.T) {
	m := &memory{}
	s := start(t, m, Options{})
	body, rest := io.Pipe()
	defer rest.Close()
	answers := background(t, s, request{path: "/a", body: body})
	if _, err := rest.Write([]byte("the first part")); err != nil { // returns once the client has read it
		t.Fatal(err)
	}
	until(t, "the server reads the body", func() bool { return s.budget.taken.Load() > 0 })
	s.StopIntake()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	if a := <-answers; a.Status != 503 || len(m.taken()) != 0 {
		t.Errorf("%+v, took %v", a, m.taken())
	}
}

func TestClosingSaysWhatItCutOff(t *testing.T) {
	m := &memory{}
	emitted := make(chan func(error), 1)
	m.emit = func(_ context.Context, _ []event.Event, done func(error)) error { emitted <- done; return nil }
	s := start(t, m, Options{})
	failed := make(chan error, 1)
	go func() {
		r, err := http.Post("http://"+s.Addr()+"/v1/events/a", "text/plain", nil)
		if err == nil {
			r.Body.Close()
		}
		failed <- err
	}()
	done := <-emitted
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); err == nil {
		t.Error("closed without an error, with a request under way")
	}
	if err := <-failed; err == nil {
		t.Error("a request that was cut off was answered")
	}
	done(nil)
	until(t, "its goroutine has ended, for the Close of the cleanup", func() bool { return s.open.Load() == 0 })
}

// patience is how long a test waits for what must happen: so long that a slow
// machine is not taken for one that hangs.
const patience = time.Minute

// until waits until a condition holds that no event announces.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
