package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/gateway"
	"holdfast/gateway/ops"
	"holdfast/storage"
)

// The pause before a gateway whose store has failed is started anew. It
// doubles with every failure, and begins again after a run of calmRun.
const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
	calmRun    = 5 * time.Minute
)

func runCommand() *cobra.Command {
	var (
		files configFlag
		level string
	)
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: `Run the gateway until it is stopped by SIGTERM or SIGINT: it then takes no
more events, finishes what is under way and closes. A second signal ends it at
once; nothing acknowledged is lost. SIGHUP reads the configuration again. Under
systemd, a unit with Type=notify is told when the gateway is ready, reloads and
stops, and with WatchdogSec= that it is alive.`,
		Example: `  holdfast run --config configs/quickstart.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(cmd.ErrOrStderr(), level)
			if err != nil {
				return err
			}
			r := &runner{files: files, log: log, stderr: cmd.ErrOrStderr(), version: thisBuild().Version, service: newService(log)}
			cfg, err := r.load((*configFlag).loadToStart)
			if err != nil {
				return r.service.failed(err)
			}
			for _, w := range cfg.Warnings {
				log.Warn("the configuration is hardly as it was meant", "warning", w.Error())
			}
			limitMemory(log)
			return r.service.failed(r.run(cmd.Context()))
		},
	}
	files.register(cmd)
	cmd.Flags().StringVar(&level, "log-level", "", "`LEVEL`: debug, info, warn or error (default $HOLDFAST_LOG, else info)")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// runner keeps a gateway running.
type runner struct {
	files   configFlag
	log     *slog.Logger
	stderr  io.Writer
	version string
	service *service // nil: no manager has started this process

	hangup chan os.Signal // SIGHUP

	mu   sync.Mutex
	good *gateway.Config // the last one without mistakes
}

// load reads the configuration and remembers it if it is good.
func (r *runner) load(read func(*configFlag) (*gateway.Config, error)) (*gateway.Config, error) {
	cfg, err := read(&r.files)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.good = cfg
	return cfg, nil
}

// reread is load for a gateway that runs. What is wrong is a reason to go on
// with what it has.
func (r *runner) reread() (*gateway.Config, error) { return r.load((*configFlag).loadWithFiles) }

// config returns the last good configuration.
func (r *runner) config() *gateway.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.good
}

// run runs gateways, one after the other for as long as only the store fails,
// until ctx ends.
func (r *runner) run(ctx context.Context) error {
	// For the whole life of the process, because SIGHUP would end it otherwise.
	r.hangup = make(chan os.Signal, 1)
	signal.Notify(r.hangup, syscall.SIGHUP)
	defer signal.Stop(r.hangup)
	defer context.AfterFunc(ctx, r.service.stop)()
	pause := firstPause
	for {
		begin := time.Now()
		err := r.once(ctx)
		if ctx.Err() != nil || !errors.Is(err, storage.ErrFailed) && !errors.Is(err, storage.ErrFull) {
			return err
		}
		if time.Since(begin) > calmRun {
			pause = firstPause
		}
		r.log.Error("the store failed; starting the gateway anew", "err", err, "pause", pause.String())
		if !r.service.rest(ctx, pause, err) {
			return nil
		}
		pause = min(2*pause, maxPause)
	}
}

// once runs one gateway to its end.
func (r *runner) once(ctx context.Context) error {
	o := gateway.Options{Logger: r.log, Version: r.version, Load: r.reread, Reloading: r.service.reload}
	if self, err := os.Executable(); err == nil {
		o.Probe = func(dir string) error { return probeStore(self, dir) }
	}
	g, err := gateway.New(r.config(), o)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	var attendant sync.WaitGroup
	attendant.Go(func() { r.attend(ctx, g, over) })
	attendant.Go(func() { fitProcessors(g, over) })
	attendant.Go(func() { r.service.attend(g, over) })
	err = g.Run(ctx)
	close(over)
	attendant.Wait()
	return err
}

// attend announces g when it is ready, then reloads it at every SIGHUP, until
// over is closed.
func (r *runner) attend(ctx context.Context, g *gateway.Gateway, over <-chan struct{}) {
	select {
	case <-g.Ready():
		r.announce(g.Status())
	case <-over:
		return
	}
	for {
		select {
		case <-r.hangup:
			r.reload(ctx, g)
		case <-over:
			return
		}
	}
}

// reload applies the configuration as it is now, or says what is wrong with it.
func (r *runner) reload(ctx context.Context, g *gateway.Gateway) {
	const failed = "reload failed; the gateway goes on with the configuration it has"
	switch err := g.Reload(ctx); {
	case err == nil: // the gateway has said so
	case isTerminal(r.stderr):
		r.log.Error(failed)
		fmt.Fprintln(r.stderr, err) // on lines of its own, for the carets
	default:
		r.log.Error(failed, "err", err)
	}
}

// announce says what listens where: in a line for people, in a record for
// machines.
func (r *runner) announce(st ops.Status) {
	if isTerminal(r.stderr) {
		fmt.Fprintf(r.stderr, "holdfast %s: mqtt on %s, health and metrics on %s, data in %s\n",
			st.Version, strings.Join(st.MQTT.Listen, " "), orNone(st.HTTP), st.Store.Path)
		return
	}
	r.log.Info("gateway is ready", "version", st.Version, "gateway", st.Gateway,
		"mqtt", st.MQTT.Listen, "http", st.HTTP, "control", st.Control, "store", st.Store.Path)
}

func orNone(s string) string {
	if s == "" {
		return "no address"
	}
	return s
}
