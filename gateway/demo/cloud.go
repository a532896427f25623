package demo

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"holdfast/gateway/ops"
)

// distance is how long the cloud takes to answer, like one that is far away.
const distance = 40 * time.Millisecond

// cloud is a web service that takes batches of events and keeps books of its
// own about them.
type cloud struct {
	link     *link
	server   *http.Server
	promises *promises

	mu       sync.Mutex
	received map[place]*tally
	ids      map[string]struct{} // of all that has arrived
	prompt   []time.Duration     // from the sensor's event to an alert here, with the link up
	held     []time.Duration     // likewise, of alerts that had to wait for the link
	broken   []string            // requests that could not be read
	behind   bool                // alerts that arrive have waited for the link
}

// place is where an event came from, as the ledger names it.
type place struct{ destination, stream string }

// tally is what has arrived from one place.
type tally struct {
	distinct   uint64 // different ids
	again      uint64 // arrivals of an id that was here
	disordered uint64 // first arrivals behind a later offset of the same key
	measured   uint64 // sum of n, of averages

	last map[string]uint64 // newest offset of each ordering key
}

func newCloud(p *promises) (*cloud, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the receiver: %w", err)
	}
	c := &cloud{
		link: &link{Listener: l, open: map[net.Conn]struct{}{}}, promises: p,
		received: map[place]*tally{}, ids: map[string]struct{}{},
	}
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = c.server.Serve(c.link) }()
	return c, nil
}

func (c *cloud) url() string { return "http://" + c.link.Addr().String() }

func (c *cloud) close() { _ = c.server.Close() }

// cutLink has the link go down. What has arrived and is not booked yet has not
// arrived.
func (c *cloud) cutLink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link.set(false)
}

// restoreLink has the link up again; waiting says whether alerts wait for it.
func (c *cloud) restoreLink(waiting bool) {
	c.mu.Lock()
	c.behind = waiting
	c.mu.Unlock()
	c.link.set(true)
}

// caughtUp says that no alert waits any more.
func (c *cloud) caughtUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behind = false
}

// ServeHTTP takes one batch; the path is the name of the destination. If the
// link is cut before the answer is out, the batch will come again.
func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	items, err := readItems(r)
	if !c.book(now, strings.TrimPrefix(r.URL.Path, "/"), items, err) {
		http.Error(w, "the batch cannot be read, or the link is down", http.StatusInternalServerError)
		return
	}
	time.Sleep(distance)
	w.WriteHeader(http.StatusNoContent)
}

// book takes a batch into the books; false if it has not arrived whole.
func (c *cloud) book(now time.Time, destination string, items []ops.Fields, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.link.up() {
		return false
	}
	if err != nil {
		c.broken = append(c.broken, err.Error())
		return false
	}
	for i := range items {
		c.take(now, destination, &items[i])
	}
	return true
}

func readItems(r *http.Request) ([]ops.Fields, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("unpack a batch: %w", err)
		}
		body = z
	}
	var items []ops.Fields
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		item, err := ops.Item(lines.Bytes()).Fields()
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, lines.Err()
}

// take books one arrival. The caller holds mu.
func (c *cloud) take(now time.Time, destination string, f *ops.Fields) {
	at := place{destination, f.Stream}
	t := c.received[at]
	if t == nil {
		t = &tally{last: map[string]uint64{}}
		c.received[at] = t
	}
	if _, known := c.ids[f.ID]; known {
		t.again++
		return
	}
	c.ids[f.ID] = struct{}{}
	t.distinct++
	if f.Offset < t.last[f.Key] {
		t.disordered++
	}
	t.last[f.Key] = f.Offset
	switch f.Stream {
	case "events":
		c.promises.keep(f.Topic, f.Payload())
	case "alerts":
		if c.behind {
			c.held = append(c.held, now.Sub(f.Time))
		} else {
			c.prompt = append(c.prompt, now.Sub(f.Time))
		}
	case "averages":
		var pane struct{ N uint64 }
		if json.Unmarshal(f.Data, &pane) == nil {
			t.measured += pane.N
		}
	}
}

// total returns how many different events have arrived.
func (c *cloud) total() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(len(c.ids))
}

// link is the listener of the cloud. While it is cut, open connections and new
// ones are reset; its port stays its own, so that nobody can take it meanwhile.
type link struct {
	net.Listener
	mu   sync.Mutex
	cut  bool
	open map[net.Conn]struct{}
}

func (l *link) set(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = !up
	if l.cut {
		for c := range l.open {
			reset(c)
		}
		clear(l.open)
	}
}

func (l *link) up() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.cut
}

// Accept returns the next connection that gets through.
func (l *link) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		if !l.cut {
			l.open[c] = struct{}{}
			l.mu.Unlock()
			return &linked{c, l}, nil
		}
		l.mu.Unlock()
		reset(c)
	}
}

// reset closes a connection so that the other side sees it break.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// linked is a connection over the link.
type linked struct {
	net.Conn
	link *link
}

func (c *linked) Close() error {
	c.link.mu.Lock()
	delete(c.link.open, c.Conn)
	c.link.mu.Unlock()
	return c.Conn.Close()
}
