//go:build prove

package prove

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// item is one event as an HTTP destination delivers it.
type item struct {
	ID       string
	Stream   string
	Offset   uint64
	Topic    string
	Key      string
	Time     time.Time
	Received time.Time
	Data     json.RawMessage
	Base64   []byte `json:"data_base64"`
}

// reading is the payload of a publisher's message.
type reading struct {
	P, N        int
	Temperature float64
	Poison      bool
}

// arrival is an item of a publisher's message as it arrived.
type arrival struct {
	offset   uint64
	received time.Time
	reading
}

// receiver is an HTTP server that takes NDJSON batches and keeps, in order of
// arrival, what it answered 200 to.
type receiver struct {
	addr   string
	server *http.Server

	mu       sync.Mutex
	answer   func(batch []item) int // status; nil answers 200
	arrivals []arrival              // messages of publishers, from the stream events
	others   []item                 // all other items
	requests int
	refused  int // requests answered with anything but 200
	seen     map[[2]int]bool
	bad      []string // what could not be read
}

// newReceiver prepares a receiver; it does not listen yet.
func newReceiver(t testing.TB) *receiver {
	r := &receiver{addr: freeAddr(), seen: map[[2]int]bool{}}
	t.Cleanup(r.down)
	return r
}

func (r *receiver) url() string { return "http://" + r.addr + "/" }

// up starts listening.
func (r *receiver) up() error {
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		return err
	}
	r.server = &http.Server{Handler: r}
	go r.server.Serve(l)
	return nil
}

// down closes the listener and all connections.
func (r *receiver) down() {
	if r.server != nil {
		r.server.Close()
		r.server = nil
	}
}

// respond sets what batches are answered with from now on.
func (r *receiver) respond(answer func(batch []item) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// ServeHTTP takes one batch.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	batch, err := readBatch(req)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		panic(http.ErrAbortHandler) // the gateway was killed while it sent: no answer
	}
	if err != nil {
		r.bad = append(r.bad, err.Error())
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if r.answer != nil {
		if code := r.answer(batch); code != http.StatusOK {
			r.refused++
			w.WriteHeader(code)
			return
		}
	}
	for _, i := range batch {
		r.take(i)
	}
}

func (r *receiver) take(i item) {
	if i.Stream != "events" {
		r.others = append(r.others, i)
		return
	}
	a := arrival{offset: i.Offset, received: i.Received}
	if err := json.Unmarshal(i.Data, &a.reading); err != nil {
		r.others = append(r.others, i)
		return
	}
	r.seen[[2]int{a.P, a.N}] = true
	r.arrivals = append(r.arrivals, a)
}

func readBatch(req *http.Request) ([]item, error) {
	var body io.Reader = req.Body
	switch e := req.Header.Get("Content-Encoding"); e {
	case "":
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		body = z
	default:
		return nil, fmt.Errorf("content encoding %q", e)
	}
	// All of it first: a body that was cut off is no line of bad JSON.
	whole, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var batch []item
	lines := bufio.NewScanner(bytes.NewReader(whole))
	lines.Buffer(make([]byte, 64<<10), 64<<20)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var i item
		if err := json.Unmarshal(lines.Bytes(), &i); err != nil {
			return nil, fmt.Errorf("item %q: %w", lines.Text(), err)
		}
		batch = append(batch, i)
	}
	return batch, lines.Err()
}

// distinct returns how many different messages have arrived.
func (r *receiver) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

// snapshot returns what has arrived so far.
func (r *receiver) snapshot() (arrivals []arrival, others []item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrivals[:len(r.arrivals):len(r.arrivals)], r.others[:len(r.others):len(r.others)]
}

// missing returns acknowledged messages that have not arrived: how many, and
// the first of them.
func (r *receiver) missing(f *fleet) (n int, example string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range f.publishers {
		p.mu.Lock()
		for k, acked := range p.acked {
			if acked && !r.seen[[2]int{p.number, k}] {
				if n++; n == 1 {
					example = fmt.Sprintf("message %d of publisher %d", k, p.number)
				}
			}
		}
		p.mu.Unlock()
	}
	return n, example
}

// checkOrder fails the test unless the first arrivals of each publisher's
// messages are in the order in which they were sent, and each offset carries
// one message only.
func (r *receiver) checkOrder(t testing.TB) {
	t.Helper()
	arrivals, _ := r.snapshot()
	last := map[int]int{}
	first := map[[2]int]bool{}
	at := map[uint64][2]int{}
	faults := 0
	fault := func(format string, args ...any) {
		if faults++; faults <= 5 {
			t.Errorf(format, args...)
		}
	}
	for _, a := range arrivals {
		id := [2]int{a.P, a.N}
		if was, ok := at[a.offset]; ok && was != id {
			fault("offset %d is message %v and message %v", a.offset, was, id)
		}
		at[a.offset] = id
		if first[id] {
			continue
		}
		first[id] = true
		if prev, ok := last[a.P]; ok && a.N <= prev {
			fault("publisher %d: message %d arrived after message %d", a.P, a.N, prev)
		}
		last[a.P] = a.N
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, bad := range r.bad {
		fault("the receiver could not read a request: %s", bad)
	}
}
