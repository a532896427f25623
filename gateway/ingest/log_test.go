package ingest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/gateway/event"
	"holdfast/gateway/ingest"
	"holdfast/storage"
)

// openLog opens a log whose retention removes nothing in these tests.
func openLog(dir string) (*storage.Log, error) {
	return storage.Open(storage.Options{Dir: dir, Gateway: "g", Linger: 50 * time.Millisecond, Streams: []storage.StreamOptions{{Name: "events", Max: 1 << 30, Keep: time.Hour}}})
}

// serve takes events into a log in dir. Without hurry a commit lingers for
// others, so that an answer that did not wait for it would be found out.
func serve(dir string, hurry bool) (*ingest.Server, *storage.Log, error) {
	log, err := openLog(dir)
	if err != nil {
		return nil, nil, err
	}
	events := log.Stream("events")
	s, err := ingest.New(ingest.Options{Emit: func(ctx context.Context, e []event.Event, done func(error)) error {
		return log.Append(ctx, []storage.Append{{Stream: events, Events: e}}, storage.AppendOptions{Hurry: hurry}, done)
	}})
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	return s, log, s.Start(l)
}

// The test kills this same program, run as a server.
const childDir = "HOLDFAST_TEST_INGEST"

func TestMain(m *testing.M) {
	dir := os.Getenv(childDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	s, _, err := serve(dir, false)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed, or the test is gone
}

// all returns the events of a log from offset on.
func all(t *testing.T, l *storage.Log, offset uint64, each func(event.Event)) {
	t.Helper()
	r := l.Stream("events").Reader(false)
	for {
		events, err := r.Read(offset, storage.ReadLimits{Events: 5000, Bytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return
		}
		for _, e := range events {
			each(e)
		}
		offset = events[len(events)-1].Offset + 1
	}
}

const (
	killClients = 8
	killBatch   = 100
	killRounds  = 5
	killAnswers = 30     // of a round, at least
	killRate    = 15_000 // events a second once all have begun; over 10,000 on average
)

func TestKill9LosesNothingThatWasAnsweredWith200(t *testing.T) {
	dir := t.TempDir()
	next := make([]int, killClients) // batches sent, by client
	answered := make([]map[int]bool, killClients)
	for i := range answered {
		answered[i] = map[int]bool{}
	}
	begin, inServer := time.Now(), time.Duration(0)
	for range killRounds {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childDir+"="+dir)
		child.Stderr = os.Stderr
		in, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		addr, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		var group sync.WaitGroup
		answers := make(chan struct{}, 1)
		for c := range killClients {
			group.Go(func() { load(strings.TrimSpace(addr), c, &next[c], answered[c], answers) })
		}
		for n := 0; n < killAnswers || time.Since(started) < 500*time.Millisecond; n++ { // then right after an answer
			<-answers
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		group.Wait()
		inServer += time.Since(started)
		_ = child.Wait()
	}
	log, err := openLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	type place struct{ client, batch int }
	found := map[place]int{} // events of a batch, which must come in order
	last := make([]int, killClients)
	for i := range last {
		last[i] = -1
	}
	events := 0
	all(t, log, 1, func(e event.Event) {
		var v struct{ C, B, N int }
		if err := json.Unmarshal(e.Payload, &v); err != nil {
			t.Fatalf("%s: %v", e.Payload, err)
		}
		p := place{v.C, v.B}
		if found[p] != v.N || v.B < last[v.C] {
			t.Errorf("client %d: event %d of batch %d comes after %d of it and batch %d", v.C, v.N, v.B, found[p], last[v.C])
		}
		found[p]++
		last[v.C] = v.B
		events++
	})
	sum := 0
	for c, batches := range answered {
		sum += len(batches)
		for b := range batches {
			if n := found[place{c, b}]; n != killBatch {
				t.Errorf("client %d: batch %d was answered with 200, and %d of its events are in the log", c, b, n)
			}
		}
	}
	for p, n := range found {
		if n != killBatch {
			t.Errorf("client %d: %d events of batch %d are in the log, of %d", p.client, n, p.batch, killBatch)
		}
	}
	if sum < killRounds*killAnswers {
		t.Errorf("only %d batches were answered", sum)
	}
	t.Logf("%d times kill -9: %d events answered with 200, at %.0f a second; the log has %d, in whole batches and in order (%v in all)",
		killRounds, sum*killBatch, float64(sum*killBatch)/inServer.Seconds(), events, time.Since(begin).Round(time.Millisecond))
}

// load posts batches of numbered events at its share of the rate until the
// server is gone, and says so when one is answered.
func load(addr string, c int, next *int, answered map[int]bool, answers chan<- struct{}) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	const every = time.Second * killBatch * killClients / killRate
	time.Sleep(every * time.Duration(c) / killClients) // one client after the other
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range tick.C {
		b := *next
		*next++
		var body bytes.Buffer
		for n := range killBatch {
			fmt.Fprintf(&body, `{"topic":"plant/%d/temp","data":{"c":%d,"b":%d,"n":%d,"temperature":21.5,"humidity":45.0}}`+"\n", c, c, b, n)
		}
		resp, err := client.Post("http://"+addr+"/v1/events", "application/x-ndjson", &body)
		if err != nil {
			return
		}
		if resp.StatusCode == http.StatusOK {
			answered[b] = true // the status line is the promise
			select {
			case answers <- struct{}{}:
			default:
			}
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// A commit that is too large for one transaction would end the store, so no
// request may make one.
func TestNoBatchIsTooLargeForTheStore(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: writes some 60 MB; go test without -short does it")
	}
	s, log, err := serve(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	defer s.Close(t.Context())
	noise := make([]byte, 8<<20)
	for i, x := 0, uint64(1); i < len(noise); i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		noise[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._"[x>>40&63]
	}
	fill := func(form string, payload int) *bytes.Buffer {
		b := &bytes.Buffer{}
		for n := 0; n < ingest.MostEvents; n++ {
			line := fmt.Sprintf(form+"\n", n, noise[n*payload%(len(noise)-payload):][:payload])
			if b.Len()+len(line) > ingest.MostBody {
				break
			}
			b.WriteString(line)
		}
		return b
	}
	total := uint64(0)
	for name, test := range map[string]struct {
		path string
		kind string
		body *bytes.Buffer
	}{
		"one payload":            {"/a", "application/octet-stream", bytes.NewBuffer(noise)},
		"many topics":            {"", "application/x-ndjson", fill(`{"topic":"%d/%s","data":1}`, 700)},
		"payloads of half":       {"", "application/x-ndjson", fill(`{"topic":"t%d","data":"%s"}`, 34<<10)},
		"payloads of a block":    {"", "application/x-ndjson", fill(`{"topic":"t%d","data":"%s"}`, 65<<10)},
		"small payloads":         {"", "application/x-ndjson", fill(`{"topic":"t%d","data":"%s"}`, 800)},
		"keys":                   {"/a", "application/x-ndjson", fill(`{"time":1%d,"data":1,"key":"%s"}`, 700)},
		"a long topic for all":   {"/" + strings.Repeat("t", 1400), "application/x-ndjson", fill(`{"time":1%d,"data":"%s"}`, 10)},
		"payloads that compress": {"", "application/x-ndjson", bytes.NewBuffer(bytes.Repeat([]byte(`{"topic":"t","data":"`+strings.Repeat("x", 60<<10)+"\"}\n"), 130))},
	} {
		resp, err := http.Post("http://"+s.Addr()+"/v1/events"+test.path, test.kind, bytes.NewReader(test.body.Bytes()))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var v struct{ Accepted uint64 }
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err := json.Unmarshal(answer, &v); resp.StatusCode != 200 || err != nil {
			t.Fatalf("%s: %s: %s", name, resp.Status, answer)
		}
		total += v.Accepted
		t.Logf("%s: %d events, %d bytes", name, v.Accepted, test.body.Len())
	}
	n := uint64(0)
	all(t, log, 1, func(event.Event) { n++ })
	if err := log.Err(); err != nil || n != total {
		t.Errorf("%d of %d events are in the log, %v", n, total, err)
	}
}

func BenchmarkBatchesOf100(b *testing.B) {
	for _, kind := range []string{"disk", "memory"} {
		b.Run(kind, func(b *testing.B) {
			s, log, err := serve(b.TempDir(), true)
			if err != nil {
				b.Fatal(err)
			}
			defer log.Close()
			if kind == "memory" { // the cost of HTTP and parsing alone
				if s, err = ingest.New(ingest.Options{Emit: func(_ context.Context, _ []event.Event, done func(error)) error { done(nil); return nil }}); err != nil {
					b.Fatal(err)
				}
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Start(l); err != nil {
					b.Fatal(err)
				}
			}
			defer s.Close(context.Background())
			var body bytes.Buffer
			for n := range 100 {
				fmt.Fprintf(&body, `{"topic":"plant/%d/temp","data":{"device":"sensor-%08d","temperature":21.%03d,"humidity":45.0,"pressure":1013.25,"seq":%d,"ts":1700000000000}}`+"\n", n%10, n%10, n, n)
			}
			b.SetParallelism(4)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for p.Next() {
					resp, err := client.Post("http://"+s.Addr()+"/v1/events", "application/x-ndjson", bytes.NewReader(body.Bytes()))
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						b.Error(resp.Status)
					}
				}
			})
			b.ReportMetric(float64(b.N*100)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
