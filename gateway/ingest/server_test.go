package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/event"
)

// memory is a log that keeps what it takes, and does as told.
type memory struct {
	mu     sync.Mutex
	events []event.Event
	// emit decides what becomes of a call; nil takes everything at once.
	emit func(ctx context.Context, events []event.Event, done func(error)) error
}

func (m *memory) take(ctx context.Context, events []event.Event, done func(error)) error {
	if m.emit != nil {
		return m.emit(ctx, events, done)
	}
	m.keep(events)
	done(nil)
	return nil
}

func (m *memory) keep(events []event.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, events...)
}

func (m *memory) taken() []event.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.events
}

func start(t testing.TB, m *memory, o Options) *Server {
	t.Helper()
	if o.Emit == nil {
		o.Emit = m.take
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// request describes one request; the zero value is an empty POST without a topic.
type request struct {
	method string
	path   string // behind /v1/events
	header map[string]string
	body   io.Reader
}

type answer struct {
	Status int
	Header http.Header
	problem
	Accepted int `json:"accepted"`
}

func send(t testing.TB, s *Server, q request) answer {
	t.Helper()
	a, err := try(s, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(s *Server, q request) (answer, error) {
	method := q.method
	if method == "" {
		method = http.MethodPost
	}
	r, err := http.NewRequest(method, "http://"+s.Addr()+"/v1/events"+q.path, q.body)
	if err != nil {
		return answer{}, err
	}
	for name, value := range q.header {
		r.Header.Set(name, value)
	}
	if host := q.header["Host"]; host != "" {
		r.Host = host
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{Status: resp.StatusCode, Header: resp.Header}
	if err := json.Unmarshal(data, &a); err != nil {
		return answer{}, fmt.Errorf("answer %q: %w", data, err)
	}
	if want := "application/problem+json"; a.Status != 200 && (a.Header.Get("Content-Type") != want || a.problem.Status != a.Status || a.Title == "" || a.Detail == "") {
		return answer{}, fmt.Errorf("answer %q of type %q is not a whole problem", data, a.Header.Get("Content-Type"))
	}
	return a, nil
}

func lines(text string) request {
	return request{header: map[string]string{"Content-Type": "application/x-ndjson"}, body: strings.NewReader(text)}
}

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestAnEventIsTakenAsItCame(t *testing.T) {
	for path, topic := range map[string]string{
		"/plant/1/temp":        "plant/1/temp",
		"/plant%2F1/temp":      "plant/1/temp", // a topic escaped as a whole
		"/werk%20s%C3%BCd/t":   "werk süd/t",
		"//a//b/":              "/a//b/", // empty levels are levels
		"/a/../b/.":            "a/../b/.",
		"/plant/1/temp?x=1":    "plant/1/temp",
		"/v1/events/%24notsys": "v1/events/$notsys",
	} {
		m := &memory{}
		a := send(t, start(t, m, Options{}), request{path: path, body: strings.NewReader("\x00any bytes\xff"),
			header: map[string]string{"Content-Type": "text/x-odd; a=b", "Traceparent": trace}})
		if a.Status != 200 || a.Accepted != 1 {
			t.Errorf("%s: %+v", path, a)
		}
		want := []event.Event{{Topic: topic, Source: "http", Client: "127.0.0.1", ContentType: "text/x-odd; a=b",
			Trace: trace, Payload: []byte("\x00any bytes\xff"), QoS: 1}}
		if diff := cmp.Diff(want, m.taken()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", path, diff)
		}
	}
}

func TestAnEmptyPayloadIsAnEvent(t *testing.T) {
	m := &memory{}
	if a := send(t, start(t, m, Options{}), request{path: "/a/b"}); a.Accepted != 1 || len(m.taken()) != 1 || len(m.taken()[0].Payload) != 0 {
		t.Errorf("%+v, took %+v", a, m.taken())
	}
}

func TestOnlyPostToEventsIsAnswered(t *testing.T) {
	s := start(t, &memory{}, Options{})
	if a := send(t, s, request{method: "GET", path: "/a"}); a.Status != 405 || a.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %+v", a)
	}
	if a := send(t, s, request{body: strings.NewReader("x")}); a.Status != 400 || !strings.Contains(a.Detail, "there is no topic") {
		t.Errorf("an event without a topic: %+v", a)
	}
	if a := send(t, s, request{path: "x/a", body: strings.NewReader("x")}); a.Status != 404 {
		t.Errorf("another path: %+v", a)
	}
}

func TestTheAnswerComesOnlyAfterTheCommit(t *testing.T) {
	m := &memory{}
	emitted := make(chan func(error), 1)
	m.emit = func(_ context.Context, _ []event.Event, done func(error)) error { emitted <- done; return nil }
	s := start(t, m, Options{Patience: time.Nanosecond}) // patience is for what is not taken yet
	answered := make(chan answer, 1)
	go func() {
		a, err := try(s, request{path: "/a"})
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	done := <-emitted
	select {
	case a := <-answered:
		t.Fatalf("answered before the commit: %+v", a)
	case <-time.After(20 * time.Millisecond): // long enough for an answer, were there one
	}
	done(nil)
	if a := <-answered; a.Status != 200 {
		t.Errorf("after the commit: %+v", a)
	}
}

func TestARefusalSaysWhyAndWhenToTryAgain(t *testing.T) {
	wait := func(ctx context.Context, _ []event.Event, _ func(error)) error { <-ctx.Done(); return ctx.Err() }
	at := func(err error) func(context.Context, []event.Event, func(error)) error {
		return func(context.Context, []event.Event, func(error)) error { return err }
	}
	later := func(err error) func(context.Context, []event.Event, func(error)) error {
		return func(_ context.Context, _ []event.Event, done func(error)) error { done(err); return nil }
	}
	full := fmt.Errorf("append: %w", ErrFull)
	for name, test := range map[string]struct {
		emit   func(context.Context, []event.Event, func(error)) error
		status int
	}{
		"no room in time":            {wait, 429},
		"disk full before":           {at(full), 507},
		"disk full at the commit":    {later(full), 507},
		"the store fails":            {at(errors.New("the store has failed")), 503},
		"the store fails committing": {later(errors.New("the store has failed")), 503},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, &memory{emit: test.emit}, Options{Patience: 10 * time.Millisecond})
			if a := send(t, s, request{path: "/a"}); a.Status != test.status || a.Header.Get("Retry-After") == "" {
				t.Errorf("%+v, want %d", a, test.status)
			}
			if got := s.Stats(); got != (Stats{Refused: 1}) {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

func TestOnlyAValidTraceparentIsKept(t *testing.T) {
	for text, ok := range map[string]bool{
		trace:                  true,
		"":                     false,
		strings.ToUpper(trace): false,
		"01" + trace[2:]:       false,
		trace + "-x":           false,
		trace[:54]:             false,
		strings.Replace(trace, "4bf92f3577b34da6a3ce929d0e0e4736", strings.Repeat("0", 32), 1): false,
		strings.Replace(trace, "00f067aa0ba902b7", strings.Repeat("0", 16), 1):                 false,
		strings.Replace(trace, "-00f0", "000f0", 1):                                            false,
		strings.Replace(trace, "4bf9", "4b-9", 1):                                              false,
	} {
		if got := traceparent(text); (got == text && text != "") != ok || !ok && got != "" {
			t.Errorf("%q: got %q", text, got)
		}
	}
}
