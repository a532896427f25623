// Package gateway puts the parts of Holdfast together. Data flows one way:
//
//	source → log → rules → streams → forwarder → sink
//
// A [Config] says what there is; [New] opens the store; [Gateway.Run] starts
// everything, and stops it in an order that loses nothing. This file is the
// only place that starts and stops the parts.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/gateway/broker"
	"holdfast/gateway/forward"
	"holdfast/gateway/ingest"
	"holdfast/gateway/ops"
	"holdfast/rules"
	"holdfast/storage"
)

// Options are what a gateway needs beside its configuration.
type Options struct {
	Logger  *slog.Logger
	Version string
	// Load reads the configuration again; nil means that it cannot be reloaded.
	Load func() (*Config, error)
	// Reloading, if not nil, is called when a reload begins; what it returns is
	// called with the result.
	Reloading func() (over func(error))
	// Probe opens a store in another process, see storage.Options.
	Probe func(dir string) error

	onCommit func() error // of tests: see storage.Options
}

// Gateway is a running Holdfast.
type Gateway struct {
	o       Options
	logger  *slog.Logger
	config  atomic.Pointer[Config]
	log     *storage.Log
	broker  *broker.Broker
	ingest  *ingest.Server // nil if nothing is taken over HTTP
	ops     *ops.Server
	started time.Time
	ready   chan struct{}
	failed  chan error // an error of the log that a part has met

	intake     context.Context // ends when nothing is taken any more
	stopIntake context.CancelFunc
	routing    context.Context
	stopRouter context.CancelFunc
	router     router
	routers    sync.WaitGroup
	routed     map[string]bool

	control string // path of the control socket
	http    string // address of health and metrics

	change       sync.Mutex // one change of the configuration at a time; guards stopped
	stopped      bool
	mu           sync.Mutex // guards the maps; held for moments only
	processors   map[string]*runningProcessor
	destinations map[string]*destination
	devices      *runningDevices
	verifier     *verifier
	stopTables   func() // ends the watching of lookup tables; nil if there are none
	room         *roomWatch

	ahead atomic.Pointer[map[string]*rules.Engine] // of immediate rules, by stream
}

type runningProcessor struct {
	*processor
	stop context.CancelFunc
	done chan struct{}
}

// New opens the store and checks what can be checked before anything runs.
func New(cfg *Config, o Options) (*Gateway, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		o: o, logger: o.Logger, started: time.Now(),
		ready: make(chan struct{}), failed: make(chan error, 1),
		processors: map[string]*runningProcessor{}, destinations: map[string]*destination{}, routed: map[string]bool{},
	}
	g.config.Store(cfg)
	access, err := cfg.MQTT.access()
	if err = errors.Join(err, cfg.checkListeners()); err != nil { // before the store is opened: a mistake must not touch it
		return nil, err
	}
	g.intake, g.stopIntake = context.WithCancel(context.Background())
	g.routing, g.stopRouter = context.WithCancel(context.Background())
	g.log, err = storage.Open(storage.Options{
		Dir: cfg.Store.Path, Linger: cfg.Store.Linger, Gateway: cfg.Gateway, Logger: o.Logger, Streams: streamOptions(cfg), Probe: o.Probe,
		OnCommit: o.onCommit,
	})
	if err != nil {
		return nil, err
	}
	g.verifier = newVerifier(g.log)
	if r := g.log.Report(); r.NewEpoch != "" {
		o.Logger.Warn("the store has a new epoch: its events from now on have new identities", "why", r.NewEpoch)
	}
	if err := errors.Join(g.openBroker(cfg, access), g.openIngest(cfg)); err != nil {
		return nil, errors.Join(err, g.log.Close())
	}
	return g, nil
}

func (g *Gateway) openBroker(cfg *Config, access broker.Access) (err error) {
	o := broker.Options{
		Listen: cfg.MQTT.Listen, Access: access, Version: g.o.Version, Gateway: cfg.Gateway, Limits: cfg.MQTT.Limits, MaxPacket: cfg.MQTT.MaxPacket,
		ReceiveMaximum: int(cfg.MQTT.ReceiveMaximum), MaxClients: cfg.MQTT.MaxClients, Logger: g.logger,
		Emit:    newIntake(g.intake, g.log, cfg.Streams).emit,
		Release: g.log.Release,
		Held:    g.log.Held,
		State:   mqttState{g.log}, Age: g.log.Age, Clock: g.log.Clock, Sessions: cfg.MQTT.Sessions,
	}
	g.broker, err = broker.New(o)
	return err
}

func streamOptions(cfg *Config) []storage.StreamOptions {
	var all []storage.StreamOptions
	for _, s := range cfg.Streams {
		all = append(all, storage.StreamOptions{
			Name: s.Name, Max: s.Max, Share: s.Share, MaxEvents: s.MaxEvents, MaxAge: s.MaxAge, Keep: s.Keep,
			WhenFull: s.WhenFull, Letters: s.Name == streamDead,
		})
	}
	return all
}

// Ready returns a channel that is closed once everything runs and the listeners are open.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// Commits returns what the committer has done since New.
func (g *Gateway) Commits() storage.Stats { return g.log.Stats() }

// Run starts everything, and stops it when ctx ends: sources first, then what
// is under way is committed, rules write their checkpoints, forwarders finish
// the attempt in flight, and the store is closed last. It returns an error
// that wraps storage.ErrFailed if the store failed: the gateway can then be
// made anew. A Gateway runs once.
func (g *Gateway) Run(ctx context.Context) error {
	err := g.start()
	if err == nil {
		close(g.ready)
		select {
		case <-ctx.Done():
			g.logger.Info("the gateway stops: it takes nothing more and finishes what is under way")
		case <-g.log.Failed():
			err = g.log.Err()
		case err = <-g.failed:
		case err = <-g.ops.Failed(): // a listener is gone
		}
	}
	begin := time.Now()
	err = errors.Join(err, g.stop())
	g.logger.Info("the gateway has stopped", "took", time.Since(begin).Round(time.Millisecond))
	return err
}

// start brings up the parts against the flow: what takes events in comes after
// what they go to. Health and status come last, when all that they show is there.
func (g *Gateway) start() error {
	cfg := g.config.Load()
	g.room = g.watchRoom()
	g.router = router{g.broker}
	g.followStreams()
	if err := g.startRules(cfg); err != nil {
		return err
	}
	for _, c := range cfg.Destinations {
		if err := g.startDestination(c); err != nil {
			return err
		}
	}
	if err := g.startDevices(cfg); err != nil {
		return err
	}
	if err := g.startIngest(cfg); err != nil {
		return err
	}
	if err := g.broker.Start(); err != nil {
		return err
	}
	return g.startOps(cfg)
}

func (g *Gateway) startOps(cfg *Config) error {
	g.ops = ops.NewServer(g, g.logger)
	g.ops.ShowDevices(g)
	g.control = ops.SocketPath(cfg.Store.Path)
	control, err := ops.ListenControl(g.control)
	if err != nil {
		return err
	}
	var public net.Listener
	if cfg.HTTP.Listen != "" {
		public, err = net.Listen("tcp", cfg.HTTP.Listen)
		if err != nil {
			return errors.Join(fmt.Errorf("http.listen: %w; choose another address, or off", err), control.Close())
		}
		g.http = public.Addr().String()
	}
	g.ops.Start(public, control)
	return nil
}

// followStreams starts the routers of streams that have none yet.
func (g *Gateway) followStreams() {
	for _, s := range g.log.Streams() {
		if g.routed[s.Name()] || s.Name() == streamDead {
			continue // dead letters have been routed when they were alive
		}
		g.routed[s.Name()] = true
		f, next := g.router.begin(s)
		g.routers.Go(func() { g.router.follow(g.routing, s, f, next) })
	}
}

func (g *Gateway) startRules(cfg *Config) error {
	if cfg.Rules == nil {
		return nil
	}
	var all []*processor
	for _, name := range cfg.Rules.Inputs() {
		engine := cfg.Rules.Engine(name)
		if engine == nil {
			continue
		}
		p, err := newProcessor(g.log, g.log.Stream(name), engine, cfg.Tables, filepath.Join(cfg.Store.Path, "checkpoints"), g.logger)
		if err != nil {
			return fmt.Errorf("rules on %q: %w", name, err)
		}
		all = append(all, p)
	}
	if err := g.lookAhead(cfg.Rules, all); err != nil {
		return err
	}
	for _, p := range all {
		ctx, stop := context.WithCancel(context.Background())
		r := &runningProcessor{p, stop, make(chan struct{})}
		g.mu.Lock()
		g.processors[p.stream.Name()] = r
		g.mu.Unlock()
		go func() {
			defer close(r.done)
			if err := p.run(ctx); err != nil {
				g.fail(err)
			}
		}()
	}
	if len(cfg.Tables) > 0 {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.watchTables(ctx, cfg.Tables, all)
		}()
		g.stopTables = func() { stop(); <-done }
	}
	return nil
}

func (g *Gateway) stopRules() {
	g.ahead.Store(nil)
	if g.stopTables != nil {
		g.stopTables()
		g.stopTables = nil
	}
	for _, p := range g.processors {
		p.stop()
	}
	for _, p := range g.processors {
		<-p.done
	}
	g.mu.Lock()
	clear(g.processors)
	g.mu.Unlock()
}

func (g *Gateway) startDestination(c DestinationConfig) error {
	cfg := g.config.Load()
	in := newIntake(g.intake, g.log, cfg.Streams)
	back := forward.Intake{Gateway: cfg.Gateway, Emit: in.patient, Logger: g.logger}
	d, err := newDestination(g.log, c, back, cfg.ShutdownTimeout, g.logger)
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.destinations[c.Name] = d
	g.mu.Unlock()
	d.start(g.fail)
	return nil
}

// fail ends the gateway with an error that leaves nothing to go on with.
func (g *Gateway) fail(err error) {
	select {
	case g.failed <- err:
	default:
	}
}

// stop ends everything that runs, along the flow.
func (g *Gateway) stop() error {
	g.change.Lock()
	defer g.change.Unlock()
	g.stopped = true
	var errs []error
	if g.ops != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		errs = append(errs, g.ops.Close(ctx))
		cancel()
	}
	g.verifier.close()
	g.room.close()
	// First those who wait for room in a full stream: nobody might ever make it.
	g.stopIntake()
	g.stopDevices()
	g.stopIngest()
	g.broker.StopIntake()
	// What was taken is acknowledged before the connections go.
	flush, cancel := context.WithTimeout(context.Background(), g.config.Load().ShutdownTimeout)
	if err := g.log.Flush(flush); err != nil && g.log.Err() == nil {
		errs = append(errs, fmt.Errorf("commit what was taken: %w", err))
	}
	cancel()
	errs = append(errs, g.closeIngest())
	g.stopRules()
	errs = append(errs, g.stopDestinations())
	g.stopRouter()
	g.routers.Wait()
	errs = append(errs, g.broker.Close())
	errs = append(errs, g.log.Close())
	return errors.Join(errs...)
}

// stopDestinations ends all of them at once, so that one deadline is enough.
func (g *Gateway) stopDestinations() error {
	var wait sync.WaitGroup
	errs := make(chan error, len(g.destinations))
	for _, d := range g.destinations {
		wait.Go(func() { errs <- d.close(false) })
	}
	wait.Wait()
	close(errs)
	g.mu.Lock()
	clear(g.destinations)
	g.mu.Unlock()
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}
