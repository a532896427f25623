package httpsink_test

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
	"holdfast/gateway/forward"
	"holdfast/gateway/forward/sinktest"
	"holdfast/gateway/sink/httpsink"
)

func open(t testing.TB, yaml string) forward.Sink {
	t.Helper()
	s, err := newSink(yaml)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newSink(yaml string) (forward.Sink, error) {
	section, err := config.LoadBytes("test.yaml", []byte(yaml))
	if err != nil {
		return nil, err
	}
	return httpsink.Kind.New(section)
}

func batch(n int) forward.Batch {
	return forward.Batch{Gateway: "gw-1", Stream: "events", Events: sinktest.Events(1, n)}
}

// far is a web service that takes batches.
type far struct {
	*httptest.Server
	mu    sync.Mutex
	items []sinktest.Item
	down  bool
	hang  chan struct{}
}

func newFar(t testing.TB) *far {
	f := &far{}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() { f.Hang(false); f.Close() })
	return f
}

func (f *far) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := unpack(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	items, err := parse(r.Header.Get("Content-Type"), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	hang, down := f.hang, f.down
	if hang == nil && !down {
		f.items = append(f.items, items...)
	}
	f.mu.Unlock()
	switch {
	case hang != nil:
		<-hang
	case down:
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%d items", len(items))
	}
}

func (f *far) Received() []sinktest.Item {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]sinktest.Item(nil), f.items...)
}

func (f *far) Fail(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = on
}

func (f *far) Hang(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hang != nil {
		close(f.hang)
		f.hang = nil
	}
	if on {
		f.hang = make(chan struct{})
	}
}

func unpack(r *http.Request) ([]byte, error) {
	switch r.Header.Get("Content-Encoding") {
	case "gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(z)
	case "zstd":
		z, err := zstd.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		defer z.Close()
		return io.ReadAll(z)
	}
	return io.ReadAll(r.Body)
}

func parse(contentType string, body []byte) ([]sinktest.Item, error) {
	var items []sinktest.Item
	switch contentType {
	case "application/x-ndjson":
		return sinktest.ParseLines(body)
	case "application/json":
		err := json.Unmarshal(body, &items)
		return items, err
	case "application/cloudevents-batch+json":
		var events []struct {
			ID, Subject string
			Data        json.RawMessage
			DataBase64  *[]byte `json:"data_base64"`
		}
		err := json.Unmarshal(body, &events)
		for _, e := range events {
			items = append(items, sinktest.Item{ID: e.ID, Topic: e.Subject, Data: e.Data, DataBase64: e.DataBase64})
		}
		return items, err
	}
	return nil, fmt.Errorf("content type %q", contentType)
}

func TestSink(t *testing.T) {
	for _, format := range []string{"ndjson", "json", "cloudevents"} {
		for _, compression := range []string{"gzip", "zstd", "none"} {
			t.Run(format+"/"+compression, func(t *testing.T) {
				sinktest.Run(t, func(t *testing.T) sinktest.Target {
					f := newFar(t)
					s := open(t, fmt.Sprintf("url: %s\nformat: %s\ncompression: %s\n", f.URL, format, compression))
					return sinktest.Target{Sink: s, Received: f.Received, Fail: f.Fail, Hang: f.Hang, Requests: httpsink.Kind.Requests}
				})
			})
		}
	}
}

func TestTheSampleIsAccepted(t *testing.T) {
	if _, err := newSink(httpsink.Kind.Sample); err != nil {
		t.Fatal(err)
	}
	if httpsink.Kind.Name != "http" || httpsink.Kind.Doc == "" {
		t.Errorf("kind %+v", httpsink.Kind)
	}
}

func TestMistakesInTheSettingsAreShownAtTheirPlace(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"no url", "format: json", "url"},
		{"other scheme", "url: ftp://host/", "1:6: url must begin with https:// or http://"},
		{"no host", "url: https:///path", "1:6: url must begin"},
		{"unreadable url", "url: 'http://[::1'", "1:6: url cannot be read"},
		{"password in the url", "url: https://user:hunter2@host/", "use basic"},
		{"unknown format", "url: http://h\nformat: nsjson", `2:9: format: "nsjson" is not known, did you mean "ndjson"?`},
		{"unknown compression", "url: http://h\ncompression: brotli", "2:14:"},
		{"bearer and basic", "url: http://h\nbearer: x\nbasic: {user: u, password: p}", "exclude each other"},
		{"empty bearer", "url: http://h\nbearer: ''", "bearer must be one line"},
		{"authorization twice", "url: http://h\nbearer: x\nheaders: {authorization: y}", "is set by bearer or basic"},
		{"bad header name", "url: http://h\nheaders: {'a b': y}", `"a b" cannot be the name of a header`},
		{"header of ours", "url: http://h\nheaders: {content-length: 5}", "Content-Length is set by the gateway itself"},
		{"line break in a header", "url: http://h\nheaders: {x: \"a\\r\\nb: c\"}", "control characters or line breaks"},
		{"half a key pair", "url: https://h\ntls: {cert: c.pem}", "tls.cert and tls.key belong together"},
		{"tls without https", "url: http://h\ntls: {ca: c.pem}", "tls has no effect on an http URL"},
		{"unknown key", "url: http://h\ncompresion: gzip", `did you mean "compression"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newSink(c.yaml)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(c.yaml, "bearer: x") && strings.Contains(err.Error(), "bearer: x") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

type verdict string

const (
	accepted  verdict = "accepted"
	temporary verdict = "temporary"
	permanent verdict = "permanent"
	tooLarge  verdict = "too large"
)

func verdictOf(err error) verdict {
	switch {
	case err == nil:
		return accepted
	case forward.IsTooLarge(err):
		return tooLarge
	case forward.IsPermanent(err):
		return permanent
	}
	return temporary
}

func TestOnlyAnswersAboutTheEventsAreBlamedOnThem(t *testing.T) {
	want := map[int]verdict{
		200: accepted, 201: accepted, 202: accepted, 204: accepted, 207: accepted,
		400: permanent, 422: permanent, 413: tooLarge,
	}
	var code atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", "/elsewhere?key=hidden")
		w.WriteHeader(int(code.Load()))
		if code.Load() != 204 && code.Load() != 304 {
			fmt.Fprintf(w, "the reason\n for %d", code.Load())
		}
	}))
	defer srv.Close()
	s := open(t, "url: "+srv.URL+"/in?key=hidden")
	codes := []int{200, 201, 202, 204, 207, 300, 301, 302, 303, 304, 307, 308}
	for c := 400; c <= 451; c++ {
		codes = append(codes, c)
	}
	codes = append(codes, 500, 501, 502, 503, 504, 505, 507, 511, 520, 599)
	for _, c := range codes {
		code.Store(int32(c))
		err := s.Send(t.Context(), batch(2))
		expect, known := want[c]
		if !known {
			expect = temporary
		}
		if got := verdictOf(err); got != expect {
			t.Errorf("%d: %s (%v), want %s", c, got, err, expect)
		}
		if err == nil {
			continue
		}
		text := err.Error()
		if !strings.Contains(text, "POST "+srv.URL+"/in?…: "+fmt.Sprint(c)) || c != 304 && !strings.Contains(text, `"the reason for `) {
			t.Errorf("%d: the error does not say what happened: %s", c, text)
		}
		if strings.Contains(text, "hidden") {
			t.Errorf("%d: the error shows the query: %s", c, text)
		}
	}
}

func TestAnAnswerThatRepeatsTheCredentialsDoesNotBringThemIntoErrors(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		// The last one stands where the quotation ends.
		fmt.Fprintf(w, "no: %s, %s %s%s", r.Header.Get("Authorization"), r.Header.Get("X-Key"), strings.Repeat("-", 130), r.Header.Get("X-Key"))
	}))
	defer srv.Close()
	for _, login := range []string{"bearer: s3cret-token", "basic: {user: pump, password: s3cret-token}"} {
		err := open(t, "headers: {X-Key: s3cret-key}\n"+login+"\nurl: "+srv.URL).Send(t.Context(), batch(1))
		if err == nil || !strings.Contains(err.Error(), "***") {
			t.Fatalf("%s: %v", login, err)
		}
		for _, secret := range []string{"s3c", "cHVtc"} { // the latter is pump in base64
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: a secret shows in %v", login, err)
			}
		}
	}
}

func TestAHangUpIsToldInWords(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer srv.Close()
	err := open(t, "url: "+srv.URL).Send(t.Context(), batch(1))
	if err == nil || !strings.HasSuffix(err.Error(), "the far side ended the connection without an answer") {
		t.Errorf("the error is %v", err)
	}
}

func TestAdviceSaysWhatToChange(t *testing.T) {
	var code atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "https://new.example.com/in")
		w.WriteHeader(int(code.Load()))
		_, _ = io.WriteString(w, strings.Repeat("ä", 5000))
	}))
	defer srv.Close()
	s := open(t, "url: "+srv.URL)
	for c, want := range map[int]string{
		301: "redirects to https://new.example.com/in are not followed, check url",
		401: "check bearer, basic", 403: "client certificate", 404: "check url",
		415: "check format and compression", 413: "batch.bytes", 407: "proxy",
	} {
		code.Store(int32(c))
		err := s.Send(t.Context(), batch(1))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %q", c, err, want)
		}
		if len(err.Error()) > 600 {
			t.Errorf("%d: the error has %d bytes", c, len(err.Error()))
		}
	}
}

func TestRetryAfterIsPassedOn(t *testing.T) {
	now := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC) // not the clock of this device
	for _, c := range []struct {
		name, value string
		date        bool
		want        time.Duration
		asked       bool
	}{
		{"seconds", "120", false, 2 * time.Minute, true},
		{"at once", "0", false, 0, true},
		{"more than an hour", "999999999999", false, time.Hour, true},
		{"a date by the far side's clock", now.Add(90 * time.Second).Format(http.TimeFormat), true, 90 * time.Second, true},
		{"a date gone by", now.Add(-time.Minute).Format(http.TimeFormat), true, 0, true},
		{"a date years ahead", now.Add(9999 * time.Hour).Format(http.TimeFormat), true, time.Hour, true},
		{"nonsense", "soon", false, 0, false},
		{"negative", "-5", false, 0, false},
		{"none", "", false, 0, false},
	} {
		for _, code := range []int{429, 503, 401} {
			t.Run(fmt.Sprint(c.name, code), func(t *testing.T) {
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Retry-After", c.value)
					if c.date {
						w.Header().Set("Date", now.Format(http.TimeFormat))
					}
					w.WriteHeader(code)
				}))
				defer srv.Close()
				err := open(t, "url: "+srv.URL).Send(t.Context(), batch(1))
				got, asked := forward.RetryDelay(err)
				if verdictOf(err) != temporary || got != c.want || asked != c.asked {
					t.Errorf("got %v %v (%v), want %v %v", got, asked, err, c.want, c.asked)
				}
			})
		}
	}
}

func TestRequestsCarryCredentialsHeadersAndAnIdempotencyKey(t *testing.T) {
	t.Setenv("INGEST_TOKEN", "tok-1")
	var got *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer srv.Close()

	s := open(t, "url: "+srv.URL+"/in?k=v\nbearer: ${INGEST_TOKEN}\nheaders: {X-Site: plant-7, Host: other.example.com, content-type: application/json}")
	b := batch(3)
	send := func(b forward.Batch) http.Header {
		t.Helper()
		if err := s.Send(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		return got.Header
	}
	h := send(b)
	for name, want := range map[string]string{
		"Authorization": "Bearer tok-1", "X-Site": "plant-7", "Content-Type": "application/json",
		"Content-Encoding": "gzip", "Idempotency-Key": "gw-1/000000000000feed/events/1-3", "User-Agent": "holdfast",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	if got.Host != "other.example.com" || got.URL.RawQuery != "k=v" || got.Method != http.MethodPost || got.ContentLength <= 0 {
		t.Errorf("%s %s host %s length %d", got.Method, got.URL, got.Host, got.ContentLength)
	}
	if again := send(b); again.Get("Idempotency-Key") != h.Get("Idempotency-Key") {
		t.Error("the same batch has another idempotency key")
	}

	b.Events[2].Epoch = 0xbeef
	if key := send(b).Get("Idempotency-Key"); key != "gw-1/000000000000feed/events/1-000000000000beef/3" {
		t.Errorf("across epochs the key is %q", key)
	}
	b.Gateway = "Werk süd"
	if key := send(b).Get("Idempotency-Key"); !strings.HasPrefix(key, "Werk%20s%C3%BCd/") {
		t.Errorf("with a name that is no header text the key is %q", key)
	}
	b.Replay = true
	if _, has := send(b)["Idempotency-Key"]; has {
		t.Error("a replay has the idempotency key of the first sending")
	}

	s = open(t, "url: "+srv.URL+"\nbasic: {user: u, password: 'p:ä'}\ncompression: none")
	send(b)
	if user, password, ok := got.BasicAuth(); !ok || user != "u" || password != "p:ä" {
		t.Errorf("basic %q %q", user, password)
	}
}

func TestADeadKeptConnectionIsReplacedWithoutAnError(t *testing.T) {
	f := newFar(t)
	s := open(t, "url: "+f.URL)
	for range 3 {
		if err := s.Send(t.Context(), batch(1)); err != nil {
			t.Fatal(err)
		}
		f.CloseClientConnections()
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("answer ", 2000))
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	s := open(t, "url: "+srv.URL)
	for range 5 {
		if err := s.Send(t.Context(), batch(10)); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 5 batches, want 1", n)
	}
}

func TestAnAnswerThatComesBeforeTheBodyWasReadIsNotLost(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 500_000 {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusRequestEntityTooLarge) // without reading the body
			return
		}
		body, err := unpack(r)
		if err == nil {
			_, err = sinktest.ParseLines(body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	defer srv.Close()
	s := open(t, "url: "+srv.URL+"\ncompression: none")
	for range 5 {
		// Either the answer or the broken connection is seen first, but from the
		// second time on the sink asks before it sends, and waits for the answer;
		// not for ever, as a machine that is busy may find.
		err := s.Send(t.Context(), batch(10_000))
		for again := 0; verdictOf(err) == temporary && again < 5; again++ {
			err = s.Send(t.Context(), batch(10_000))
		}
		if verdictOf(err) != tooLarge {
			t.Fatalf("got %v, want too large", err)
		}
		if err := s.Send(t.Context(), batch(1000)); err != nil {
			t.Fatalf("the next batch: %v", err)
		}
	}
}

// knowNoHost resolves names by a server that knows none, not by that of the
// machine, which may not be reachable.
func knowNoHost(t *testing.T) {
	old := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = old })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		resolver, server := net.Pipe() // messages begin with their length, as over TCP
		go func() {
			defer server.Close()
			var length [2]byte
			for {
				if _, err := io.ReadFull(server, length[:]); err != nil {
					return
				}
				message := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(server, message); err != nil {
					return
				}
				message[2] |= 0x80 // an answer (RFC 1035, 4.1.1)
				message[3] = 3     // there is no such name
				if _, err := server.Write(append(length[:], message...)); err != nil {
					return
				}
			}
		}()
		return resolver, nil
	}}
}

func TestUnreachableFarSidesAreTemporaryAndNamed(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	gone := srv.URL
	srv.Close()
	knowNoHost(t)
	for _, c := range []struct{ name, url, want string }{
		{"refused", gone, "connection refused"},
		{"no such host", "http://holdfast.invalid/?token=hidden", "holdfast.invalid cannot be resolved"},
		{"not TLS", strings.Replace(newFar(t).URL, "http:", "https:", 1), "POST https://"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := open(t, "url: "+c.url).Send(t.Context(), batch(1))
			if verdictOf(err) != temporary || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAForwarderDeliversEverythingThroughHTTPInOrderPerKey(t *testing.T) {
	for _, requests := range []int{1, 4} {
		f := newFar(t)
		cur := sinktest.NewCursor("gw-1", "events")
		cur.Append(sinktest.Events(1, 5000)...)
		cur.End()
		o := forward.Options{Name: "cloud", Requests: requests, Limits: forward.Limits{Events: 100}}
		if err := forward.New(cur, open(t, "url: "+f.URL), o).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, want := map[string][]string{}, map[string][]string{}
		for _, i := range f.Received() {
			got[i.Key] = append(got[i.Key], i.ID)
		}
		for _, e := range sinktest.Events(1, 5000) {
			want[e.OrderingKey()] = append(want[e.OrderingKey()], e.ID("gw-1", "events").String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with %d requests (-want +got):\n%s", requests, diff)
		}
	}
}

func TestABatchWithGapsHasAnIdempotencyKeyOfItsOwn(t *testing.T) {
	keys := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Idempotency-Key")
	}))
	defer srv.Close()
	sink := open(t, "url: "+srv.URL)
	key := func(offsets ...uint64) string {
		b := forward.Batch{Gateway: "g", Stream: "s"}
		for _, o := range offsets {
			b.Events = append(b.Events, event.Event{Epoch: 7, Offset: o})
		}
		if err := sink.Send(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		return <-keys
	}
	if key(3, 4, 5) != "g/0000000000000007/s/3-5" {
		t.Errorf("without gaps the key is %s", key(3, 4, 5))
	}
	seen := map[string]bool{}
	for _, k := range []string{key(3, 4, 5, 9), key(3, 4, 6, 9), key(3, 9), key(3, 4, 5, 6, 9)} {
		if !strings.HasPrefix(k, "g/0000000000000007/s/3-9-") || seen[k] {
			t.Errorf("key %s among %v", k, seen)
		}
		seen[k] = true
	}
	if k := key(3, 4, 6, 9); !seen[k] {
		t.Errorf("sent again, a batch has the new key %s", k)
	}
}

func BenchmarkSend(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer srv.Close()
	events := make([]event.Event, 500)
	at := event.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	for i := range events {
		payload := fmt.Sprintf(`{"device":"sensor-%04d","seq":%d,"temp":%.2f,"humidity":%.1f,"pressure":%.2f,"battery":3.71,"status":"okay"}`,
			i%40, 123456+i, 20+float64(i*7919%500)/100, 40+float64(i*104729%300)/10, 990+float64(i*1299709%4000)/100)
		events[i] = event.Event{
			Epoch: 7, Offset: uint64(1_000_000 + i), Source: "mqtt", Client: fmt.Sprintf("sensor-%04d", i%40),
			Topic: fmt.Sprintf("plant/line1/sensor-%04d/telemetry", i%40),
			Time:  at.Add(time.Duration(i) * 12345), Received: at.Add(time.Duration(i) * 12347),
			Payload: []byte(fmt.Sprintf("%-120s", payload)),
		}
	}
	batch := forward.Batch{Gateway: "gw-0123456789", Stream: "events", Events: events}
	for _, compression := range []string{"gzip", "zstd", "none"} {
		b.Run("compression="+compression, func(b *testing.B) {
			s := open(b, "url: "+srv.URL+"\ncompression: "+compression)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Send(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(events))/b.Elapsed().Seconds(), "events/s")
		})
	}
}
