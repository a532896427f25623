//go:build prove

package prove

import (
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// cloud is an HTTP server with a bad day: it plays several destinations, told
// apart by the path of their URL, counts what it took for each, and refuses,
// stalls or hangs up as its mood is. A poison event it never takes.
type cloud struct {
	addr   string
	server *http.Server

	mu     sync.Mutex
	mood   mood
	taken  map[string]*offsets // by destination/stream: answered with 200
	poison map[string]*offsets // by destination/stream: refused for good, alone
	alone  map[int]int         // events refused for good, alone, by status
	bad    []string
	// What the events were, by offset of the stream events.
	hot      map[uint64]bool // hotter than the rule's threshold
	messages map[[2]int]uint64
	answers  map[int]int // requests by status
}

// mood is how requests are answered that have no poison in them.
type mood struct {
	status int           // 0 is 200, -1 hangs up
	most   int           // events of a request, more is 413; 0 for any number
	wait   time.Duration // before the answer
}

func newCloud(t testing.TB) *cloud {
	c := &cloud{
		addr: freeAddr(), taken: map[string]*offsets{}, poison: map[string]*offsets{},
		alone: map[int]int{}, hot: map[uint64]bool{}, messages: map[[2]int]uint64{}, answers: map[int]int{},
	}
	t.Cleanup(c.down)
	return c
}

func (c *cloud) url(destination string) string { return "http://" + c.addr + "/" + destination }

func (c *cloud) up() error {
	if c.server != nil {
		return nil
	}
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		return err
	}
	c.server = &http.Server{Handler: c}
	go c.server.Serve(l)
	return nil
}

func (c *cloud) down() {
	if c.server != nil {
		c.server.Close()
		c.server = nil
	}
}

// changeMood draws a mood; the good one half of the time.
func (c *cloud) changeMood(r *rand.Rand) mood {
	m := mood{}
	switch r.IntN(14) {
	case 0:
		m.status = -1
	case 1, 2:
		m.wait = time.Duration(50+r.IntN(500)) * time.Millisecond
	case 3:
		m.status = http.StatusUnauthorized
	case 4:
		m.status = http.StatusTooManyRequests
	case 5:
		m.status = http.StatusInternalServerError
	case 6:
		m.most = 1 + r.IntN(50)
	}
	c.set(m)
	return m
}

func (c *cloud) set(m mood) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mood = m
}

// ServeHTTP takes one batch.
func (c *cloud) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c.mu.Lock()
	m := c.mood
	c.mu.Unlock()
	batch, err := readBatch(req)
	if m.wait > 0 {
		select {
		case <-time.After(m.wait):
		case <-req.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if err != nil || m.status < 0 {
		panic(http.ErrAbortHandler)
	}
	code := c.judge(strings.Trim(req.URL.Path, "/"), batch, m)
	w.WriteHeader(code)
}

func (c *cloud) judge(destination string, batch []item, m mood) (code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.answers[code]++ }()
	switch {
	case m.status != 0:
		return m.status
	case m.most > 0 && len(batch) > m.most:
		return http.StatusRequestEntityTooLarge
	}
	readings := make([]reading, len(batch))
	for i, it := range batch {
		if err := json.Unmarshal(it.Data, &readings[i]); err != nil {
			c.bad = append(c.bad, err.Error())
		}
		if !readings[i].Poison {
			continue
		}
		code := badEvent(it)
		if len(batch) == 1 {
			c.see(it, readings[i])
			if at(c.poison, destination+"/"+it.Stream).add(it.Offset) {
				c.alone[code]++
			}
		}
		return code
	}
	for i, it := range batch {
		c.see(it, readings[i])
		at(c.taken, destination+"/"+it.Stream).add(it.Offset)
	}
	return http.StatusOK
}

// badEvent is the status that a poison event is always answered with, one of
// the two that say that the fault is the event's.
func badEvent(it item) int {
	if it.Offset%2 == 0 {
		return http.StatusBadRequest
	}
	return http.StatusUnprocessableEntity
}

func (c *cloud) see(it item, r reading) {
	if it.Stream != "events" {
		return
	}
	if r.Temperature > 80 {
		c.hot[it.Offset] = true
	}
	c.messages[[2]int{r.P, r.N}] = it.Offset
}

func at(all map[string]*offsets, name string) *offsets {
	if all[name] == nil {
		all[name] = &offsets{}
	}
	return all[name]
}

// offsets is a set of offsets of a stream.
type offsets struct {
	bits []uint64
	n    uint64
}

// add reports whether the offset is new.
func (o *offsets) add(offset uint64) bool {
	if o.has(offset) {
		return false
	}
	for uint64(len(o.bits)) <= offset/64 {
		o.bits = append(o.bits, 0)
	}
	o.bits[offset/64] |= 1 << (offset % 64)
	o.n++
	return true
}

func (o *offsets) has(offset uint64) bool {
	return o != nil && offset/64 < uint64(len(o.bits)) && o.bits[offset/64]>>(offset%64)&1 == 1
}

func (o *offsets) count() uint64 {
	if o == nil {
		return 0
	}
	return o.n
}
