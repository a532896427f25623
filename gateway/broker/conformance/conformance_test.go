package conformance

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// promise is what a clause demands, and a dialogue that shows whether a server
// keeps it.
type promise struct {
	clause string // as MQTT-3.8.3-1, or a section
	v      version
	name   string
	show   func(s *stage)
}

func (p promise) key() string { return fmt.Sprintf("%s [%s] %s", p.v, p.clause, p.name) }

// both makes a promise of both versions. Where the clauses differ, the first is
// that of 3.1.1.
func both(clauses, name string, show func(s *stage)) []promise {
	old, new, ok := strings.Cut(clauses, " ")
	if !ok {
		new = old
	}
	return []promise{{old, v4, name, show}, {new, v5, name, show}}
}

func five(clause, name string, show func(s *stage)) []promise {
	return []promise{{clause, v5, name, show}}
}

func three(clause, name string, show func(s *stage)) []promise {
	return []promise{{clause, v4, name, show}}
}

func promises() []promise {
	return slices.Concat(
		connectPromises(), framingPromises(), publishPromises(), subscribePromises(), ackPromises(),
		qosPromises(), deliveryPromises(), retainPromises(), sharedPromises(), sessionPromises(), willPromises(),
		webSocketPromises(), resourcePromises(),
	)
}

// outcome is how a dialogue ended.
type outcome struct {
	failure
	took time.Duration
}

func (o outcome) String() string {
	switch {
	case o.text == "":
		return "ok"
	case o.weak:
		return "weak"
	}
	return "FAIL"
}

// atOnce is how many dialogues take place at the same time.
const atOnce = 32

// hold holds a server to all promises.
func hold(server *server, all []promise) []outcome {
	outcomes := make([]outcome, len(all))
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, p := range all {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			began := time.Now()
			outcomes[i].failure = play(server, p, fmt.Sprintf("c%d", i))
			outcomes[i].took = time.Since(began)
		})
	}
	wg.Wait()
	return outcomes
}

func play(server *server, p promise, prefix string) (f failure) {
	s := &stage{server: server, v: p.v, prefix: prefix}
	defer s.end()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			f = r
		default:
			panic(r)
		}
	}()
	p.show(s)
	return f
}

var only = flag.String("only", "", "regular expression of the promises to look at, as 'MQTT-3.8.3-1|SUBACK'")

func TestThePromisesAreInOrder(t *testing.T) {
	all := promises()
	if len(all) < 150 {
		t.Errorf("%d promises, want at least 150", len(all))
	}
	seen := map[string]bool{}
	for _, p := range all {
		if seen[p.key()] {
			t.Errorf("there twice: %s", p.key())
		}
		seen[p.key()] = true
	}
}

func TestConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: takes a minute; runs without -short")
	}
	chosen := regexp.MustCompile(*only)
	all := slices.DeleteFunc(promises(), func(p promise) bool { return !chosen.MatchString(p.key()) })

	ours := startGateway(t)
	bystander := watch(t, ours)
	mine := hold(ours, all)
	bystander.stop(t)
	if log := ours.lastLog(); ours.dead() || strings.Contains(log, "DATA RACE") {
		t.Fatalf("the gateway died, or has a race:\n%s", log)
	}

	var theirs []outcome
	if m := startMosquitto(t); m == nil {
		if os.Getenv("CI") == "true" {
			t.Error("mosquitto is not installed, so that there is nothing to compare with")
		}
		t.Log("SKIP: mosquitto is not installed, so that there is nothing to compare with")
	} else if theirs = hold(m, all); m.dead() {
		t.Logf("mosquitto died:\n%s", m.lastLog())
	}
	report(t, all, mine, theirs)
}

// report prints the table and judges the first column.
func report(t *testing.T, all []promise, mine, theirs []outcome) {
	t.Helper()
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "holdfast\tmosquitto\tMQTT\tclause\tpromise\n")
	counts := [2]map[string]int{{}, {}}
	for i, p := range all {
		their := "-"
		if theirs != nil {
			their = theirs[i].String()
			counts[1][their]++
		}
		counts[0][mine[i].String()]++
		fmt.Fprintf(w, "%s\t%s\t%s\t[%s]\t%s\n", mine[i], their, p.v, p.clause, p.name)
		if theirs != nil && theirs[i].text != "" {
			fmt.Fprintf(w, "\t\t\t\t- mosquitto: %s\n", theirs[i].text)
		}
	}
	w.Flush()
	t.Logf("\n%s", table.String())
	t.Logf("%d promises. holdfast: %v, mosquitto: %v", len(all), counts[0], counts[1])

	for i, p := range all {
		if mine[i].text != "" {
			t.Errorf("%s: %s (after %v)", p.key(), mine[i].text, mine[i].took.Round(time.Millisecond))
		}
	}
}

// bystander is a client that does nothing wrong. It publishes, subscribes to
// what it publishes, pings, and connects again and again.
type bystander struct {
	server *server
	stage  *stage
	quit   chan struct{}
	done   sync.WaitGroup

	mu     sync.Mutex
	worst  map[string]time.Duration
	err    string
	memory int // before
	peak   int
}

const mostMemory = 64 << 20

func watch(t *testing.T, server *server) *bystander {
	t.Helper()
	b := &bystander{
		server: server, stage: &stage{server: server, v: v4, prefix: "bystander"},
		quit: make(chan struct{}), worst: map[string]time.Duration{},
	}
	b.memory = server.memory()
	b.every(10*time.Millisecond, func() { b.peak = max(b.peak, server.memory()) })
	p := b.stage.connect(hello{})
	p.subscribe(filter{"bystander/+", 1})
	b.every(20*time.Millisecond, func() {
		b.timed("message there and back", func() {
			p.publish(message{topic: "bystander/t", payload: "x", qos: 1})
			p.receives("x")
		})
		b.timed("ping", p.alive)
	})
	b.every(100*time.Millisecond, func() {
		s := &stage{server: server, v: v5, prefix: "bystander2"}
		defer s.end()
		b.timed("connect", func() {
			p := s.connect(hello{id: "again"})
			p.subscribe(filter{"bystander/x", 0})
		})
	})
	return b
}

func (b *bystander) every(pause time.Duration, do func()) {
	b.done.Go(func() {
		defer func() {
			if f, ok := recover().(failure); ok {
				b.mu.Lock()
				b.err = f.text
				b.mu.Unlock()
			}
		}()
		for {
			do()
			select {
			case <-b.quit:
				return
			case <-time.After(pause):
			}
		}
	})
}

func (b *bystander) timed(what string, do func()) {
	began := time.Now()
	do()
	took := time.Since(began)
	b.mu.Lock()
	b.worst[what] = max(b.worst[what], took)
	b.mu.Unlock()
}

func (b *bystander) stop(t *testing.T) {
	t.Helper()
	close(b.quit)
	b.done.Wait()
	b.stage.end()
	if b.err != "" {
		t.Errorf("the well-behaved client: %s", b.err)
	}
	t.Logf("the well-behaved client waited at most %v; anonymous memory %d MiB before, %d MiB at most",
		b.worst, b.memory>>20, b.peak>>20)
	for what, took := range b.worst {
		if took > longestWait {
			t.Errorf("the well-behaved client waited %v for its %s, want at most %v", took, what, longestWait)
		}
	}
	if grown := b.peak - b.memory; grown > mostMemory && !raceDetector {
		t.Errorf("anonymous memory grew by %d MiB, want at most %d", grown>>20, mostMemory>>20)
	}
	if raceDetector {
		t.Log("the race detector takes memory of its own, so that growth is not judged")
	}
}
