package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Load describes the work to put on a broker.
type Load struct {
	Addr     string        // HOST:PORT
	Clients  int           // connections
	Window   int           // messages each may have unacknowledged
	Size     int           // bytes of payload, at least MinSize
	QoS      byte          // 0 or 1
	Rate     int           // messages a second over all clients; 0 = as many as are acknowledged
	Duration time.Duration // how long to measure
	Messages int64         // end after so many messages, warm-up included; 0 = after Duration only
	Warmup   time.Duration // how long to load before measuring
	Topic    string        // may hold one %d, the number of the client from 0
	ClientID string        // prefix of the client identifiers
	Version  byte          // 4 or 5

	// Subscribers are further connections, each of which subscribes to all
	// topics with SubQoS (0 or 1) and checks what it is sent: that every
	// message of every client comes, once and in order.
	Subscribers int
	SubQoS      byte

	// Progress, if set, is called once a second while the load runs. It must
	// be quick: the load waits for it.
	Progress func(Progress)

	quiet    time.Duration // replaces quietLimit in tests
	Username string
	Password string
}

// Progress is what a load has done so far.
type Progress struct {
	Elapsed   time.Duration // since the load began, warm-up included
	Warming   bool          // nothing counts yet
	Sent      int64         // messages, since the load began
	PerSecond float64       // acknowledged in the last second; sent, at QoS 0
	Delivered int64         // to subscribers while measuring
}

// Check reports the first setting that makes no sense.
func (l Load) Check() error {
	switch {
	case l.Addr == "":
		return errors.New("no broker: give its HOST:PORT")
	case l.Clients < 1 || l.Clients > 10000:
		return fmt.Errorf("%d clients: give 1 to 10000", l.Clients)
	case l.Window < 1 || l.Window > maxWindow:
		return fmt.Errorf("window %d: give 1 to %d", l.Window, maxWindow)
	case l.Size < MinSize:
		return fmt.Errorf("size %d: a reading takes at least %d bytes", l.Size, MinSize)
	case l.QoS > 1:
		return fmt.Errorf("QoS %d: the load is QoS 0 or 1", l.QoS)
	case l.Rate < 0:
		return fmt.Errorf("rate %d: give messages a second, or 0 for as many as possible", l.Rate)
	case l.Messages < 0:
		return fmt.Errorf("%d messages: give how many to send, or 0 for no limit", l.Messages)
	case l.Duration <= 0:
		return fmt.Errorf("duration %v: give how long to measure, such as 10s", l.Duration)
	case l.Version != 4 && l.Version != 5:
		return fmt.Errorf("MQTT version %d: give 4 (3.1.1) or 5", l.Version)
	case l.Topic == "" || strings.ContainsAny(l.Topic, "+#"):
		return fmt.Errorf("topic %q: give a topic name without wildcards", l.Topic)
	case l.Subscribers < 0 || l.Subscribers > 1000:
		return fmt.Errorf("%d subscribers: give 0 to 1000", l.Subscribers)
	case l.SubQoS > 1:
		return fmt.Errorf("subscribers with QoS %d: they are QoS 0 or 1", l.SubQoS)
	case l.Subscribers > 0 && strings.Contains(l.Topic, "%d") && !slices.Contains(strings.Split(l.Topic, "/"), "%d"):
		return fmt.Errorf("topic %q: with subscribers %%d must be a level by itself, as in plant/%%d/temp", l.Topic)
	case strings.Count(l.Topic, "%") != strings.Count(l.Topic, "%d") || strings.Count(l.Topic, "%d") > 1:
		return fmt.Errorf("topic %q: it may hold one %%d, the number of the client", l.Topic)
	}
	return nil
}

func (l Load) topic(n int) string {
	if strings.Contains(l.Topic, "%d") {
		return fmt.Sprintf(l.Topic, n)
	}
	return l.Topic
}

// filter matches the topics of all clients.
func (l Load) filter() string { return strings.Replace(l.Topic, "%d", "+", 1) }

// Result is what a broker made of a [Load]. Counts and latencies are those of
// the time that was measured; Sent, Refused, Unacknowledged and Errors are of
// the whole run.
type Result struct {
	Addr           string
	Elapsed        time.Duration // what was measured
	Acknowledged   int64         // messages acknowledged while measuring
	PerSecond      float64
	P50, P99, Max  time.Duration // from writing a message to reading its PUBACK
	Sent           int64
	Refused        int64    // acknowledged with an error code
	Unacknowledged int64    // sent, and no answer came
	Errors         []string // what became of connections that broke

	// What came to subscribers, summed over them. Latencies are those of
	// messages that came since the measuring began, to the last; the faults
	// are of the whole run.
	Delivered                          int64 // while measuring
	DeliveredPerSecond                 float64
	DeliverP50, DeliverP99, DeliverMax time.Duration // from writing a message to reading it
	Received                           int64         // in the whole run, duplicates included
	Lost                               int64         // acknowledged, or sent at QoS 0, and never came
	Duplicates                         int64         // came again
	OutOfOrder                         int64         // came after a later one of the same client
	Foreign                            int64         // not of this run; they count nowhere else
}

// Failed reports whether anything but acknowledgements came back, or a
// subscriber found a fault.
func (r Result) Failed() bool {
	return r.Refused > 0 || r.Unacknowledged > 0 || len(r.Errors) > 0 || r.Lost > 0 || r.Duplicates > 0 || r.OutOfOrder > 0
}

// Run puts l on its broker and returns what came of it. The error is about
// what kept it from running at all; connections that break later are in the
// result. It ends early, with the figures so far, when ctx does.
func Run(ctx context.Context, l Load) (Result, error) {
	if err := l.Check(); err != nil {
		return Result{}, err
	}
	d, err := newDriver(ctx, l)
	if err != nil {
		return Result{}, err
	}
	defer d.close()
	return d.run(ctx)
}
