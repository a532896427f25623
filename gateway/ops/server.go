package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Server serves the HTTP address and the control socket of one gateway.
type Server struct {
	gateway  Gateway
	devices  Devices // nil if there are none to be asked for
	log      *slog.Logger
	registry *prometheus.Registry

	ctx     context.Context // ends with Close; every request has it
	cancel  context.CancelFunc
	servers []*http.Server
	running sync.WaitGroup
	failed  chan error
}

// NewServer returns a server for g that does nothing before Start.
func NewServer(g Gateway, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		gateway: g,
		log:     log,
		ctx:     ctx,
		cancel:  cancel,
		failed:  make(chan error, 2),
	}
	s.registry = newRegistry(g, s.deviceStatus)
	return s
}

func (s *Server) deviceStatus() []DeviceStatus {
	if s.devices == nil {
		return nil
	}
	return s.devices.DeviceStatus()
}

// ShowDevices makes the control socket answer for devices, and metrics tell of
// them. It is called before Start.
func (s *Server) ShowDevices(d Devices) { s.devices = d }

// Start serves health and metrics on public and the rest on control, until
// Close; it returns at once and owns both listeners. Either may be nil.
// Start is called once.
func (s *Server) Start(public, control net.Listener) {
	if public != nil {
		s.serve(public, &http.Server{
			Handler:           s.publicHandler(),
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    16 << 10,
		})
	}
	if control != nil {
		// No limit on writing: a tail lasts as long as its reader likes.
		s.serve(control, &http.Server{
			Handler:           s.controlHandler(),
			ReadHeaderTimeout: 5 * time.Second,
			IdleTimeout:       2 * time.Minute,
		})
	}
}

func (s *Server) serve(l net.Listener, h *http.Server) {
	h.BaseContext = func(net.Listener) context.Context { return s.ctx }
	h.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	s.servers = append(s.servers, h)
	s.running.Go(func() {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
	})
}

// Failed delivers an error for each listener that ended by itself. The
// gateway is not ready then, and says so in its Status.
func (s *Server) Failed() <-chan error { return s.failed }

// Close ends tails and profiles, lets other requests finish until ctx ends,
// and returns when no goroutine of the server is left but those of requests
// that ctx did not give the time. It may be called more than once.
func (s *Server) Close(ctx context.Context) error {
	s.cancel()
	var errs []error
	for _, h := range s.servers {
		if err := h.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close health and control: %w", err), h.Close())
		}
	}
	s.running.Wait()
	return errors.Join(errs...)
}

// metricsLog passes errors of the metrics handler on to the log.
type metricsLog struct{ log *slog.Logger }

func (l metricsLog) Println(v ...any) {
	l.log.Error("metrics could not be collected", "err", fmt.Sprint(v...))
}
