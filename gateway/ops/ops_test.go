package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// fake is a gateway by script. Tail sends its items, then fails with tailErr,
// or without one waits for its reader to go.
type fake struct {
	enabled bool
	Gateway // what no test asks for
	status  Status
	reload  func(context.Context) error
	items   []Item
	tailErr error
	asked   TailQuery
	dead    []Letter
	letters LetterQuery // asked for
	asks    int         // for a recount
}

func (f *fake) Status() Status { return f.status }

func (f *fake) Letters(_ context.Context, q LetterQuery, send func(Letter) error) error {
	f.letters = q
	for _, l := range f.dead {
		if err := send(l); err != nil {
			return err
		}
	}
	return f.tailErr
}

func (f *fake) RetryLetters(_ context.Context, q LetterQuery) (LetterResult, error) {
	f.letters = q
	return LetterResult{Selected: 3, Settled: 2, Skipped: 1, Why: "a rule failed on it"}, f.tailErr
}

func (f *fake) PurgeLetters(_ context.Context, q LetterQuery) (LetterResult, error) {
	f.letters = q
	return LetterResult{Selected: 3, Settled: 3}, f.tailErr
}

func (f *fake) SetRule(_ context.Context, name string, enable bool) error {
	if name != "hot" {
		return fmt.Errorf("there is no rule %q", name)
	}
	f.enabled = enable
	return nil
}

func (f *fake) RuleState(_ context.Context, name, key string) (json.RawMessage, error) {
	return json.Marshal(map[string]string{"rule": name, "key": key})
}

func (f *fake) Verify() error { f.asks++; return f.tailErr }

// Verification is finished when it is asked for the second time.
func (f *fake) Verification() (Verification, bool) {
	if f.asks == 0 {
		return Verification{}, false
	}
	v := Verification{Started: time.Unix(1, 0).UTC(), Done: 5, Total: 10}
	if f.asks++; f.asks > 2 {
		v.Done, v.Finished = 10, time.Unix(3, 0).UTC()
		v.Streams = []VerifyStream{{Name: "events", First: 1, Next: 11, Events: 10, Differences: []string{"offset 3 is missing"}}}
	}
	return v, true
}

func (f *fake) Reload(ctx context.Context) error { return f.reload(ctx) }

func (f *fake) Tail(ctx context.Context, q TailQuery, send func(Item) error) error {
	f.asked = q
	for _, it := range f.items {
		if err := send(it); err != nil {
			return err
		}
	}
	if f.tailErr != nil {
		return f.tailErr
	}
	<-ctx.Done()
	return ctx.Err()
}

// start serves f on a loopback address and a control socket.
func start(t *testing.T, f Gateway) (s *Server, url string, c *Client) {
	t.Helper()
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), SocketName)
	control, err := ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	s = NewServer(f, slog.New(slog.DiscardHandler))
	s.Start(public, control)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s, "http://" + public.Addr().String(), NewClient(path)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestReadyUnlessItCannotKeepItsPromise(t *testing.T) {
	for _, tt := range []struct {
		state State
		want  int
	}{{OK, 200}, {Degraded, 200}, {Failed, 503}} {
		t.Run(string(tt.state), func(t *testing.T) {
			_, url, _ := start(t, &fake{status: Status{State: tt.state, Reasons: []string{"destination cloud: 401 since 3m"}}})
			if code, _ := get(t, url+"/livez"); code != 200 {
				t.Errorf("/livez is %d, want 200", code)
			}
			if code, _ := get(t, url+"/readyz"); code != tt.want {
				t.Errorf("/readyz is %d, want %d", code, tt.want)
			}
			code, body := get(t, url+"/healthz")
			var got health
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			want := health{tt.state, []string{"destination cloud: 401 since 3m"}}
			if diff := cmp.Diff(want, got); code != tt.want || diff != "" {
				t.Errorf("/healthz is %d, want %d: %s", code, tt.want, diff)
			}
		})
	}
}

func TestWorstReasonComesFirst(t *testing.T) {
	st := Status{State: OK}
	st.Degrade("cloud is away")
	st.Fail("the store has failed")
	st.Degrade("stream is full")
	want := []string{"the store has failed", "cloud is away", "stream is full"}
	if diff := cmp.Diff(want, st.Reasons); st.State != Failed || diff != "" {
		t.Errorf("%s: %s", st.State, diff)
	}
}

func TestProfilesAndControlAreOnTheSocketOnly(t *testing.T) {
	_, url, _ := start(t, &fake{})
	for _, path := range []string{"/debug/pprof/", "/v1/status", "/v1/reload", "/v1/tail"} {
		if code, _ := get(t, url+path); code != 404 {
			t.Errorf("%s on the HTTP address is %d, want 404", path, code)
		}
	}
}

func TestStatusArrivesAsItIs(t *testing.T) {
	f := &fake{status: fullStatus()}
	_, _, c := start(t, f)
	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.status, got); diff != "" {
		t.Error(diff)
	}
}

func TestStatusJSONHasListsAndNeverNull(t *testing.T) {
	_, _, c := start(t, &fake{})
	b, err := c.StatusJSON(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"reasons", "streams", "destinations", "rules"} {
		if _, ok := got[key].([]any); !ok {
			t.Errorf("%s is %v, want an empty list", key, got[key])
		}
	}
}

func TestReloadShowsMistakesWithTheirCarets(t *testing.T) {
	mistakes := config.Errors{{
		Pos: config.Pos{File: "a.yaml", Line: 3, Col: 5}, Msg: `unknown key "wher"`, Source: "    wher: <b>", Width: 4,
	}}
	for _, tt := range []struct {
		name    string
		err     error
		mistake bool
	}{
		{"good", nil, false},
		{"mistakes", mistakes, true},
		{"other", errors.New("open rules: no such file"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, c := start(t, &fake{reload: func(context.Context) error { return tt.err }})
			err := c.Reload(t.Context())
			if tt.err == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || err.Error() != tt.err.Error() {
				t.Errorf("got %v\nwant %v", err, tt.err)
			}
			if ce := new(ConfigError); errors.As(err, &ce) != tt.mistake {
				t.Errorf("is a ConfigError: %v, want %v", !tt.mistake, tt.mistake)
			}
		})
	}
}

func TestReloadGoesOnWhenItsCallerHasGone(t *testing.T) {
	begun, caller := make(chan struct{}), make(chan struct{})
	result := make(chan error, 1)
	_, _, c := start(t, &fake{reload: func(ctx context.Context) error {
		close(begun)
		<-caller
		select {
		case <-ctx.Done():
			result <- ctx.Err()
		case <-time.After(50 * time.Millisecond): // time for a wrong cancellation to arrive
			result <- nil
		}
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if err := c.Reload(ctx); err == nil {
		t.Error("the client's reload returned no error although it was given up")
	}
	close(caller)
	if err := <-result; err != nil {
		t.Errorf("the reload was given up: %v", err)
	}
}

func items() []Item {
	one := event.Event{Epoch: 0xab, Offset: 7, Topic: "plant/1/temp", Source: "mqtt", Received: 1e18, Payload: []byte(`{"v": 1.50}`)}
	two := event.Event{Epoch: 0xab, Offset: 8, Topic: "plant/1/raw", Source: "mqtt", Received: 1e18, Time: 9e17, Key: "k", Payload: []byte{0xff, 0}}
	return []Item{NewItem("pi", "events", &one), NewItem("pi", "events", &two)}
}

func TestTailSendsItemsInOrderUntilItsReaderGoes(t *testing.T) {
	f := &fake{items: items()}
	_, _, c := start(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	query := TailQuery{Stream: "alerts", Filter: "plant/+/#", Last: 2}
	var got []Item
	err := c.Tail(ctx, query, func(it Item) error {
		if got = append(got, it); len(got) == 2 {
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(items(), got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(query, f.asked); diff != "" {
		t.Error(diff)
	}
}

func TestItemSaysWhatTheEventWas(t *testing.T) {
	var payloads []string
	for _, it := range items() {
		f, err := it.Fields()
		if err != nil {
			t.Fatal(err)
		}
		if f.Stream != "events" || f.ID != "pi/00000000000000ab/events/"+strconv.FormatUint(f.Offset, 10) || !f.Received.Equal(time.Unix(1e9, 0)) {
			t.Errorf("%+v", f)
		}
		payloads = append(payloads, string(f.Payload()))
	}
	if diff := cmp.Diff([]string{`{"v": 1.50}`, "\xff\x00"}, payloads); diff != "" {
		t.Error(diff)
	}
}

func TestTailTellsWhyItEnded(t *testing.T) {
	for _, tt := range []struct {
		name  string
		f     *fake
		query TailQuery
		want  string
	}{
		{"before the first event", &fake{tailErr: errors.New(`no stream "x"; there are events, alerts`)}, TailQuery{}, `no stream "x"; there are events, alerts`},
		{"after some events", &fake{items: items(), tailErr: errors.New("read block 9: 50% damaged\nsee status")}, TailQuery{}, "tail: read block 9: 50% damaged\nsee status"},
		{"bad filter", &fake{}, TailQuery{Filter: "a/#/b"}, `invalid topic: "a/#/b": # must be the last level`},
		{"from and last", &fake{}, TailQuery{From: 1, Last: 1}, "from and last exclude each other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, c := start(t, tt.f)
			err := c.Tail(t.Context(), tt.query, func(Item) error { return nil })
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestCloseEndsTailsAndSaysWhy(t *testing.T) {
	s, _, c := start(t, &fake{items: items()})
	first, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var n int
		ended <- c.Tail(t.Context(), TailQuery{}, func(Item) error {
			if n++; n == 1 {
				close(first)
			}
			return nil
		})
	}()
	<-first
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || err.Error() != "tail: the gateway is stopping" {
		t.Errorf("the tail ended with %v", err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("after Close the socket answers: %v", err)
	}
}

func TestListenerThatFailsIsReported(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(&fake{}, slog.New(slog.DiscardHandler))
	s.Start(l, nil)
	l.Close()
	if err := <-s.Failed(); err == nil {
		t.Error("no error")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func FuzzTailQuery(f *testing.F) {
	f.Add("events", "a/+/#", "7", "")
	f.Add("", "#", "", "3")
	f.Add("x", "a/#/b", "-1", "1e3")
	f.Fuzz(func(t *testing.T, stream, filter, from, last string) {
		q, err := parseTailQuery(map[string][]string{"stream": {stream}, "filter": {filter}, "from": {from}, "last": {last}})
		if err != nil {
			return
		}
		again, err := parseTailQuery(q.values())
		if err != nil || again != q {
			t.Errorf("%+v became %+v, %v", q, again, err)
		}
	})
}
