package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/gateway/event"
)

func zip(t testing.TB, data string) *bytes.Buffer {
	t.Helper()
	b := &bytes.Buffer{}
	w := gzip.NewWriter(b)
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestABodyMayBeCompressedAndIsBoundedUncompressed(t *testing.T) {
	const most = 4096
	m := &memory{}
	s := start(t, m, Options{MaxBody: most, MaxEvents: 3})
	zipped := func(b io.Reader) request {
		return request{path: "/a", header: map[string]string{"Content-Encoding": "gzip"}, body: b}
	}
	corrupt := zip(t, "hello").Bytes()
	corrupt[len(corrupt)-5] ^= 1
	unsized := func(n int) request { return request{path: "/a", body: io.LimitReader(zeros{}, int64(n))} }
	four := lines(strings.Repeat(`{"topic":"a","data":1}`+"\n", 4))
	other := zipped(strings.NewReader("x"))
	other.header["Content-Encoding"] = "zstd"
	for name, test := range map[string]struct {
		request
		status, size int
	}{
		"gzip":                    {zipped(zip(t, "hello")), 200, 5},
		"gzip of the most":        {zipped(zip(t, strings.Repeat("x", most))), 200, most},
		"gzip of one more":        {zipped(zip(t, strings.Repeat("x", most+1))), 413, 0},
		"gzip bomb":               {zipped(zip(t, strings.Repeat("\x00", 2<<20))), 413, 0},
		"gzip cut short":          {zipped(bytes.NewReader(zip(t, "hello").Bytes()[:12])), 400, 0},
		"gzip with a wrong sum":   {zipped(bytes.NewReader(corrupt)), 400, 0},
		"not gzip":                {zipped(strings.NewReader("hello")), 400, 0},
		"another encoding":        {other, 415, 0},
		"the most":                {request{path: "/a", body: strings.NewReader(strings.Repeat("x", most))}, 200, most},
		"one more":                {request{path: "/a", body: strings.NewReader(strings.Repeat("x", most+1))}, 413, 0},
		"the most, length untold": {unsized(most), 200, most},
		"one more, length untold": {unsized(most + 1), 413, 0},
		"too many events":         {four, 413, 0},
	} {
		m.events = nil
		a := send(t, s, test.request)
		if a.Status != test.status || test.status == 200 && len(m.taken()[0].Payload) != test.size || test.status != 200 && len(m.taken()) != 0 {
			t.Errorf("%s: %+v, took %d events", name, a, len(m.taken()))
		}
	}
	if held := s.budget.taken.Load(); held != 0 {
		t.Errorf("%d bytes are still held after all answers", held)
	}
}

func TestALongTopicInThePathDoesNotMultiply(t *testing.T) {
	m := &memory{}
	q := lines(strings.Repeat("{\"data\":1}\n", MostEvents))
	q.path = "/" + strings.Repeat("t", 12000)
	if a := send(t, start(t, m, Options{}), q); a.Status != 413 || len(m.taken()) != 0 {
		t.Errorf("%+v, took %d", a, len(m.taken()))
	}
}

func TestTheMemoryOfAllRequestsIsBounded(t *testing.T) {
	m := &memory{}
	hold, emitted := make(chan struct{}), make(chan struct{}, 10)
	m.emit = func(_ context.Context, events []event.Event, done func(error)) error {
		go func() { emitted <- struct{}{}; <-hold; done(nil) }()
		return nil
	}
	const most = 64 << 10
	s := start(t, m, Options{MaxBody: most})
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if a, err := try(s, request{path: "/a", body: strings.NewReader(strings.Repeat("x", most))}); err != nil || a.Status != 200 {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	for range 3 {
		<-emitted
	}
	full := request{path: "/a", body: strings.NewReader(strings.Repeat("x", most))}
	if a := send(t, s, full); a.Status != 429 || a.Header.Get("Retry-After") == "" {
		t.Errorf("beyond the bound: %+v", a)
	}
	close(hold)
	group.Wait()
	full.body = strings.NewReader(strings.Repeat("x", most))
	if a := send(t, s, full); a.Status != 200 {
		t.Errorf("with room again: %+v", a)
	}
}

func TestAConnectionTooManyIsToldSo(t *testing.T) {
	s := start(t, &memory{}, Options{MaxConns: 1})
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err != nil { // it is served, and so has the slot
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	text, _ := io.ReadAll(second)
	head, body, _ := strings.Cut(string(text), "\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 503 ") || !strings.Contains(head, fmt.Sprintf("Content-Length: %d\r\n", len(body))) && !strings.HasSuffix(head, fmt.Sprintf("Content-Length: %d", len(body))) {
		t.Errorf("got %q, %d bytes of body", text, len(body))
	}
	c.Close()
	for deadline := time.Now().Add(patience); ; { // the slot is free once the server has seen the end
		a, err := try(s, request{path: "/a"})
		if err == nil && a.Status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no slot became free: %+v, %v", a, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
