package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"

	"holdfast/gateway/config"
	"holdfast/gateway/event"
)

// The most that Options can ask for. One request is one transaction of the
// log, and one payload one value in it: these bounds keep both possible.
const (
	MostBody   = 8 << 20
	MostEvents = 10_000
)

// ErrFull is wrapped by errors of Emit that mean that there is no room: the
// disk is full, or a stream that then refuses. The sender is shown the error.
var ErrFull = errors.New("there is no room")

// Emit takes the events of one request into the log, as a whole. It blocks for
// back-pressure until ctx ends, and returns an error only if the events were
// not taken; done is then never called. Otherwise the events belong to the log
// and done is called once, whatever becomes of ctx: with nil when all are on
// disk, with an error when none counts as taken. Whoever sent the request
// waits for that. Emit is called concurrently.
type Emit func(ctx context.Context, events []event.Event, done func(error)) error

// Options configure a server. Emit is required.
type Options struct {
	Emit Emit
	// Tokens are the bearer tokens that may send, by name. The name is the
	// Client of the events. Without any, only this machine may send.
	Tokens map[string]config.Secret

	MaxBody   int           // bytes of a request, uncompressed; default and at most MostBody
	MaxEvents int           // events of a request; default and at most MostEvents
	MaxConns  int           // default 256
	Patience  time.Duration // how long a request waits for room in the log; default 5 s

	// Failed is called when the listener ends by itself; nil means that
	// nobody wants to know.
	Failed func(error)
	Logger *slog.Logger // default: none
}

// Stats count since the start.
type Stats struct {
	Events       uint64 // on disk
	Invalid      uint64 // requests with a mistake: 400 to 415 but for the next
	Unauthorized uint64 // requests without a right to send: 401 and 403
	Refused      uint64 // requests that may be sent again: 408, 429, 503, 507
}

// Server takes events over HTTP. Make it with [New].
type Server struct {
	o       Options
	tokens  atomic.Pointer[tokens]
	origins *http.CrossOriginProtection // knows the requests of web pages
	budget  budget
	unzip   sync.Pool // of *gzip.Reader

	intake context.Context // ends with StopIntake
	stop   context.CancelFunc
	emits  sync.RWMutex // read-locked by calls of Emit
	http   http.Server
	serve  sync.WaitGroup
	addr   atomic.Pointer[string]
	open   atomic.Int64 // requests at the moment

	events, invalid, unauthorized, refused atomic.Uint64
}

// New returns a server that does nothing before Start. The error is about the
// tokens.
func New(o Options) (*Server, error) {
	if o.MaxBody <= 0 || o.MaxBody > MostBody {
		o.MaxBody = MostBody
	}
	if o.MaxEvents <= 0 || o.MaxEvents > MostEvents {
		o.MaxEvents = MostEvents
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 256
	}
	if o.Patience <= 0 {
		o.Patience = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, origins: http.NewCrossOriginProtection(), budget: budget{limit: 4 * int64(o.MaxBody)}}
	s.unzip.New = func() any { return new(gzip.Reader) }
	all, err := newTokens(o.Tokens)
	if err != nil {
		return nil, err
	}
	s.tokens.Store(&all)
	s.intake, s.stop = context.WithCancel(context.Background())
	s.http = http.Server{
		Handler:           http.HandlerFunc(s.handle),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// SetTokens replaces those who may send; requests that are being answered are
// not touched. The last token cannot be taken away, nor the first be given:
// that would change who can reach the server at all.
func (s *Server) SetTokens(secrets map[string]config.Secret) error {
	all, err := newTokens(secrets)
	if err != nil {
		return err
	}
	if (len(all) == 0) != (len(*s.tokens.Load()) == 0) {
		return errors.New("going from tokens to none, or back, takes a restart")
	}
	s.tokens.Store(&all)
	return nil
}

// Start serves on l until Close and returns at once. It owns l, also when it
// returns an error: without tokens l must be on a loopback address. A listener
// of crypto/tls will do. Start is called once.
func (s *Server) Start(l net.Listener) error {
	if len(*s.tokens.Load()) == 0 && !loopback(l.Addr().String()) {
		l.Close()
		return fmt.Errorf("take events on %s: other machines can reach it, so it needs tokens", l.Addr())
	}
	addr := l.Addr().String()
	s.addr.Store(&addr)
	s.serve.Go(func() {
		err := s.http.Serve(&bounded{Listener: l, slots: make(chan struct{}, s.o.MaxConns)})
		if !errors.Is(err, http.ErrServerClosed) && s.o.Failed != nil {
			s.o.Failed(fmt.Errorf("take events on %s: %w", addr, err))
		}
	})
	return nil
}

// Addr is the address that Start listens on; "" before.
func (s *Server) Addr() string {
	if a := s.addr.Load(); a != nil {
		return *a
	}
	return ""
}

// StopIntake refuses what comes from now on, and what is still arriving or
// waiting for room in the log; what the log has taken is answered when it is
// on disk. When it returns, Emit is not called any more. It may be called more
// than once.
func (s *Server) StopIntake() {
	s.stop()
	s.emits.Lock() // for the calls under way
	defer s.emits.Unlock()
}

// Close stops the intake, lets requests end until ctx does, and closes all
// connections. The log must go on committing meanwhile. The error says that
// requests were cut off. It may be called more than once.
func (s *Server) Close(ctx context.Context) error {
	s.StopIntake()
	var err error
	if late := s.http.Shutdown(ctx); late != nil {
		// Shutdown waits for connections without a request, too.
		if n := s.open.Load(); n > 0 {
			err = fmt.Errorf("stop taking events on %s: %d requests were cut off: %w", s.Addr(), n, late)
		}
		s.http.Close()
	}
	s.serve.Wait()
	return err
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{s.events.Load(), s.invalid.Load(), s.unauthorized.Load(), s.refused.Load()}
}
