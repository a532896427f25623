// Package demo plays what Holdfast is for, in one process: simulated boards
// and two devices, a gateway with a few rules, and a cloud whose link goes down
// for the middle third of the time. At the end it asks all of them what they
// have seen, and compares.
//
// The gateway is the real one with a real configuration file. Only two things
// are not as in the field: a destination that is away is tried again every
// second or so, and the cloud is a receiver on the loopback interface.
package demo

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/gateway"
	"holdfast/gateway/ops"
)

// Boards is how many boards there are.
const Boards = boardCount

// What the configuration names.
const (
	streamEvents   = "events"
	streamAlerts   = "alerts"
	streamAverages = "averages"
	ruleAverages   = "averages"
	destAlarms     = "alarms"
)

// ConfigName is the file name of the configuration in Options.Dir.
const ConfigName = "gateway.yaml"

//go:embed gateway.yaml
var configuration []byte

const (
	pulse  = 100 * time.Millisecond // between two looks at the gateway
	settle = 30 * time.Second       // at most, for what is on its way at the end
)

// Options say what to play and who watches.
type Options struct {
	Dir     string        // an empty directory for configuration, store and log
	For     time.Duration // how long sensors send
	Seed    uint64        // what chance decides about the boards
	Parts   gateway.Parts // drivers, buses and sinks as the command has them
	Version string

	// Look is called every Interval with what there is to see, and Tell when
	// something happens. Neither is called while the other runs.
	Interval time.Duration
	Look     func(Moment)
	Tell     func(News)
}

// Moment is the state of the play at a time.
type Moment struct {
	At           time.Duration // since the sensors were started
	Acknowledged uint64        // to the boards and the devices
	Alerts       uint64        // that rules have written
	Averages     uint64        // likewise
	Delivered    uint64        // events and results in the cloud
	Backlog      uint64        // events and results that wait for the cloud
	Peak         uint64        // largest backlog so far
	Up           bool          // the link to the cloud
	Connected    int           // boards
	Commit       time.Duration // half of the commits took less
}

// News is something that happened.
type News struct {
	At   time.Duration
	Kind Kind
	Text string
}

// Kind is a kind of news.
type Kind int

// The kinds of news.
const (
	Note Kind = iota
	Alert
	LinkDown
	LinkUp
)

// play is one run.
type play struct {
	Options
	promises *promises
	cloud    *cloud
	sensors  *sensors
	gateway  *gateway.Gateway
	over     chan error // how the gateway ended
	alerts   chan ops.Fields

	began    time.Time
	nextLook time.Duration
	downAt   time.Time // zero while the link is up
	upAt     time.Time // zero unless the backlog of an outage is being watched
	late     bool      // alerts of the outage are still on their way
	outage   time.Duration
	peak     uint64
}

// Run plays until Options.For is over or ctx ends, then stops the sensors, and
// waits up to half a minute until all that was acknowledged is in the cloud.
// The report says whether it adds up; the error is about what kept the play
// from taking place. It sets RUNTIME_DIRECTORY for the process, so that the
// control socket of a gateway on the same machine is left alone.
func Run(ctx context.Context, o Options) (Report, error) {
	p := &play{Options: o, promises: newPromises(), over: make(chan error, 1), alerts: make(chan ops.Fields, 64)}
	p.sensors = newSensors(p.promises)
	var err error
	if p.cloud, err = newCloud(p.promises); err != nil {
		return Report{}, err
	}
	defer p.cloud.close()

	logFile, err := os.Create(filepath.Join(o.Dir, "gateway.log"))
	if err != nil {
		return Report{}, err
	}
	defer logFile.Close()
	if err := p.open(slog.New(slog.NewTextHandler(logFile, nil))); err != nil {
		return Report{}, err
	}
	running, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { p.over <- p.gateway.Run(running) }()
	select {
	case <-p.gateway.Ready():
	case err := <-p.over:
		return Report{}, err
	}
	r, err := p.perform(ctx)
	if err != nil {
		return r, err
	}
	stop()
	return r, <-p.over
}

// open writes the configuration and opens the gateway.
func (p *play) open(logger *slog.Logger) error {
	file := filepath.Join(p.Dir, ConfigName)
	text := bytes.ReplaceAll(configuration, []byte("CLOUD"), []byte(p.cloud.url()))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	store := filepath.Join(p.Dir, "store")
	if err := os.Setenv("RUNTIME_DIRECTORY", store); err != nil {
		return err
	}
	cfg, err := gateway.Load([]string{file}, p.parts())
	if err != nil {
		return err
	}
	p.gateway, err = gateway.New(cfg, gateway.Options{Logger: logger, Version: p.Version})
	return err
}

// parts are those of the command, watched.
func (p *play) parts() gateway.Parts {
	parts := p.Parts
	parts.Drivers = nil
	for _, d := range p.Parts.Drivers {
		parts.Drivers = append(parts.Drivers, p.sensors.watched(d))
	}
	return parts
}

// perform plays all acts, and gives the report. The gateway runs on.
func (p *play) perform(ctx context.Context) (Report, error) {
	tail, stopTail := context.WithCancel(context.Background())
	defer stopTail()
	go func() { // its only error is that the play is over
		_ = p.gateway.Tail(tail, ops.TailQuery{Stream: streamAlerts, From: 1}, func(it ops.Item) error {
			f, err := it.Fields()
			if err != nil {
				return err
			}
			select {
			case p.alerts <- f:
			case <-tail.Done():
			}
			return tail.Err()
		})
	}()

	p.began, p.nextLook = time.Now(), p.Interval
	if err := p.sensors.start(p.gateway.Status().MQTT.Listen[0], p.Seed); err != nil {
		return Report{}, err
	}
	defer p.sensors.halt()
	// One act begins when the one before it is over: on a machine that is busy
	// none is passed over.
	act := p.For / 3
	down, up, end := time.After(act), (<-chan time.Time)(nil), (<-chan time.Time)(nil)
	for playing := true; playing; {
		select {
		case <-down:
			p.cut()
			up = time.After(act)
		case <-up:
			p.restore()
			end = time.After(act)
		case <-end:
			playing = false
		case <-ctx.Done():
			playing = false
			p.tell(Note, "interrupted: the sensors stop early, the ledger is drawn up all the same")
		default:
			if err := p.breathe(); err != nil {
				return Report{}, err
			}
		}
	}
	p.restore()
	p.sensors.halt()
	p.tell(Note, "the sensors stop; what is on its way, and the last averages, still go to the cloud")
	return p.settle()
}

// settle waits until everything adds up, or patience ends.
func (p *play) settle() (Report, error) {
	for deadline := time.Now().Add(settle); ; {
		if err := p.breathe(); err != nil {
			return Report{}, err
		}
		gone := false
		select {
		case <-p.sensors.done:
			gone = true
		default:
		}
		if gone && p.sensors.err != nil {
			return Report{}, p.sensors.err
		}
		r := p.report()
		if gone && len(r.Faults) == 0 || time.Now().After(deadline) {
			p.follow()
			p.show()
			return r, nil
		}
	}
}

// breathe waits for a moment, and shows what happens meanwhile.
func (p *play) breathe() error {
	pause := time.NewTimer(pulse)
	defer pause.Stop()
	for {
		select {
		case f := <-p.alerts:
			p.alert(&f)
		case err := <-p.over:
			if err == nil {
				err = errors.New("the gateway has ended")
			}
			return err
		case <-pause.C:
			p.watch()
			return nil
		}
	}
}

func (p *play) cut() {
	p.cloud.cutLink()
	p.downAt = time.Now()
	p.tell(LinkDown, "the link to the cloud goes down")
}

// restore has the link up again if it is not.
func (p *play) restore() {
	if p.downAt.IsZero() {
		return
	}
	alerts, others := p.backlog(p.gateway.Status())
	p.peak = max(p.peak, alerts+others)
	p.upAt = time.Now()
	p.outage = p.upAt.Sub(p.downAt)
	p.late = alerts > 0
	p.downAt = time.Time{}
	p.cloud.restoreLink(p.late)
	p.tell(LinkUp, fmt.Sprintf("the link is up again after %s; waiting for it: %s, %s of telemetry",
		seconds(p.outage), amount(alerts, "alert"), amount(others, "event")))
}

// backlog counts what waits for the cloud.
func (p *play) backlog(st ops.Status) (alerts, others uint64) {
	for _, d := range st.Destinations {
		if d.Name == destAlarms {
			alerts += d.Lag
		} else {
			others += d.Lag
		}
	}
	return alerts, others
}

// watch notes how the backlog does, and shows it if it is time to.
func (p *play) watch() {
	p.follow()
	if time.Since(p.began) >= p.nextLook {
		p.show()
		p.nextLook += p.Interval
	}
}

// follow notes how the backlog does.
func (p *play) follow() {
	alerts, others := p.backlog(p.gateway.Status())
	p.peak = max(p.peak, alerts+others)
	if !p.upAt.IsZero() {
		since := time.Since(p.upAt)
		if p.late && alerts == 0 {
			p.late = false
			p.cloud.caughtUp()
			p.tell(Note, fmt.Sprintf("the alerts are in the cloud, %s after the link", seconds(since)))
		}
		if alerts+others < caughtUp {
			p.upAt = time.Time{}
			p.tell(Note, fmt.Sprintf("the backlog is gone, %s after the link", seconds(since)))
		}
	}
}

// caughtUp is a backlog that is just what comes in: the batches under way.
const caughtUp = 50

func (p *play) show() {
	st := p.gateway.Status()
	alerts, others := p.backlog(st)
	m := Moment{
		At:           time.Since(p.began),
		Acknowledged: uint64(p.sensors.counters.Acknowledged.Load()) + p.sensors.captured(),
		Delivered:    p.cloud.total(),
		Backlog:      alerts + others, Peak: p.peak,
		Up:        p.downAt.IsZero(),
		Connected: int(p.sensors.counters.Connected.Load()),
		Commit:    st.Store.Latency.P50.Std(),
	}
	for _, s := range st.Streams {
		switch s.Name {
		case streamAlerts:
			m.Alerts = s.Appended
		case streamAverages:
			m.Averages = s.Appended
		}
	}
	p.Look(m)
}

func amount(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (p *play) tell(k Kind, text string) {
	p.Tell(News{At: time.Since(p.began), Kind: k, Text: text})
}

// alert tells of an alert as a subscriber on the spot would hear of it.
func (p *play) alert(f *ops.Fields) {
	var what struct {
		Board string
		Value *float64
		Unit  string
	}
	_ = json.Unmarshal(f.Data, &what) // the rules of the demo write nothing else
	parts := strings.Split(f.Topic, "/")
	text := what.Board
	if len(parts) > 1 {
		text = parts[1] + ": " + text
	}
	if what.Value != nil {
		text += fmt.Sprintf(", %.4g %s", *what.Value, what.Unit)
	}
	p.tell(Alert, text)
}
