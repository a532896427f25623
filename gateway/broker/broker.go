// Package broker is the MQTT server of the gateway, for MQTT 3.1.1 and 5. What
// clients publish goes to the log and is acknowledged when it is on disk; what
// the log has committed is routed to subscribers.
//
// mochi-mqtt does the handshake, with its codec for CONNECT and CONNACK, and
// keeps the topic tree and $SYS. The broker reads each socket itself, strictly;
// messages, subscriptions and sessions are its own (see hook for the reasons).
// This package is the only importer of mochi.
//
// Clients connect over TCP, TLS or WebSocket, see [Listener]. Who may connect,
// and publish and subscribe to what, is said by [Access], which can change while
// clients are connected. A user is whom a password or a client certificate
// vouches for; a name that nobody has checked counts for nothing. A session
// belongs to its user: while it lasts, others are refused its client id.
//
// What is not allowed is refused with reason 0x87: a will with the CONNECT, a
// subscription with the SUBACK, a message with its PUBACK or PUBREC; one at QoS
// 0 is dropped. 3.1.1 has no refusal of a message: there the client is
// disconnected. A message to a topic that begins with $, which are the broker's,
// is refused in the same way with reason 0x90. Every message is judged again when it is delivered, so that
// neither wildcards nor shared subscriptions, retained messages, wills or what
// a session has kept get round the rules.
//
// Sessions, what they have not delivered, wills and retained messages outlive
// the process if there is a [State]. Messages for subscribers are in the log
// only: a session has a place there, see cursor. SUBACK says that the
// subscription is on disk, and CONNACK that the will is; what subscribers have
// acknowledged follows within a second, or along with the next commit when that
// is much. So after kill -9 a client may get the last messages at QoS 1 again
// that it acknowledged: with those that it has not, at most as many as it takes
// at once (its Receive Maximum; 128 if that is less, and never more than 512).
// A shared subscription gives at most 512 again for each member, to whoever has
// room, and so not always marked as duplicates.
//
// A subscriber gets messages at QoS 1 and 2 in the order of their stream, and so those
// of one publisher to one topic as they were published, whatever their QoS. One
// at QoS 0 is sent at once or never, and so may overtake those that wait for a
// subscriber that does not keep up: the order that MQTT demands is that of one
// topic and QoS (MQTT 5, 4.6, [MQTT-4.6.0-5]; 3.1.1, [MQTT-4.6.0-6]).
//
// To read the code, follow a message. What the bytes mean is known to package
// [holdfast/gateway/broker/packet]. Conn takes them from a socket of listen,
// intake gives the message to the log, at once if by haste the client waits for
// that, and flight answers when it is there. Then
// route finds who subscribes; outbox, or share for a group, gives it to those who
// keep up, and cursor reads the log for others; window has what is not
// acknowledged, and send writes to the socket. Session says whose all that is,
// keeper, record and progress bring it to the disk and back. Hooks is where
// mochi is.
package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"holdfast/gateway/broker/packet"
	"holdfast/gateway/event"
)

// ErrRefused is wrapped by errors of Emit that mean "not now": the log is
// full, say. The client is told so and may send the message again; any other
// error disconnects it.
var ErrRefused = errors.New("message refused")

// A PartialError is given to the done of Emit when some events of the batch
// were refused and all others are on disk: a full stream takes nothing, but
// must not keep another from taking what is in the same batch.
type PartialError struct {
	Refused []int // indexes in Batch.Events, ascending
	Err     error
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("%d messages of a batch: %v", len(e.Refused), e.Err)
}
func (e *PartialError) Unwrap() error { return e.Err }

var (
	errNoConnect = errors.New("no CONNECT in time")
	errSilent    = errors.New("nothing heard for one and a half times the keep alive")
	errSlow      = errors.New("the client does not read what it is sent")
)

// Batch is what one client published in one go, in order. Of the times, only
// Received is set; Mono and Boot are left to the log.
type Batch struct {
	Client string
	Events []event.Event
	// Hold are the QoS 2 packet identifiers of the client taken with these
	// events, one for each event at QoS 2 in their order. They are committed
	// with them, and stay until Release.
	Hold []uint16
	// Hurry says that the client waits for acknowledgements before it sends
	// on, so that it must not wait long for more to commit.
	Hurry bool
	// Peers is how many clients, this one included, have published lately.
	Peers int
	// Gone is closed when the connection is over: an Emit that waits for room
	// may give up. nil: never.
	Gone <-chan struct{}
}

// Options configure a broker. Emit is required.
type Options struct {
	Listen []Listener
	Access // until SetAccess

	Limits         Limits
	MaxPacket      int // bytes of the largest packet taken; default 1 MiB
	MaxClients     int // default 10,000
	ReceiveMaximum int // unacknowledged messages that an MQTT 5 client may have sent; default 1024
	MaxQueued      int // bytes queued on one connection; default 4 MiB
	Sessions       Sessions

	Logger  *slog.Logger // default: none
	Version string       // told below $SYS
	Gateway string       // the name of the gateway, told to other gateways

	// Emit takes a batch into the log, under the contract of [event.Emit].
	// It is called from one goroutine per client, concurrently.
	Emit func(b Batch, done func(error)) error
	// Release forgets QoS 2 packet identifiers of a client; done, with the
	// contract of Emit, says that this is on disk. Order with Emit of the same
	// client must be kept. nil: they are not on disk.
	Release func(client string, ids []uint16, done func(error)) error
	// Held returns the QoS 2 packet identifiers that were on disk for a client
	// when the broker was started. nil: none.
	Held func(client string) []uint16
	// State keeps sessions, wills and retained messages. nil: they end with
	// the process.
	State State
	// Age is how long ago an event of the log was taken in. nil: by its time.
	Age func(*event.Event) time.Duration
	// Clock is the number of the machine's boot and the time since. nil: how
	// long the gateway was down is taken from the wall clock.
	Clock func() (boot uint32, mono time.Duration)

	// For tests; what is not set is as it must be.
	willGrace time.Duration
	keepEvery time.Duration
	sysEvery  time.Duration
	pace      pace
	listen    func(network, address string) (net.Listener, error)
}

// Broker is an MQTT server. Its methods may be called concurrently, except
// Route, which has one caller at a time.
type Broker struct {
	opt            Options
	log            *slog.Logger
	server         *mqtt.Server
	limits         Limits
	wire           packet.Limits // those of limits that are about packets
	maxPacket      int
	maxQueued      int
	receiveMaximum int
	ports          []*port
	access         atomic.Pointer[Access]
	wg             sync.WaitGroup // all goroutines of the broker but that of keeper
	kept           sync.WaitGroup // which is the last to end

	mu       sync.Mutex
	conns    map[*conn]struct{}
	sessions map[string]*session
	recalled map[string]bool // clients whose held identifiers were read from disk
	closed   bool

	saying sync.Mutex           // taken last of all locks
	said   map[string]time.Time // what was logged lately

	intake  sync.RWMutex // held for reading around Emit and Release
	stopped bool         // guarded by intake

	route    routing
	retained retainedSet
	keeper   keeper
	now      atomic.Int64  // the clock of keeper, as it was lately
	visits   atomic.Uint64 // connections that have had a session
	peers    peers
	quit     chan struct{} // closed by Close
	count    struct {
		traffic
		received, refused, duplicates, delivered, dropped, expired, sessions atomic.Uint64

		violations [256]atomic.Uint64 // by reason code of MQTT 5; 0 is for no CONNECT in time
	}
}

// New returns a broker that does nothing before Start.
func New(o Options) (*Broker, error) {
	if o.Emit == nil {
		return nil, errors.New("new broker: Options.Emit is required")
	}
	or := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	or(&o.MaxPacket, 1<<20)
	or(&o.MaxClients, 10_000)
	or(&o.ReceiveMaximum, 1024)
	or(&o.MaxQueued, 4<<20)
	if o.ReceiveMaximum > 65535 || o.MaxPacket > 256<<20 {
		return nil, errors.New("new broker: ReceiveMaximum is at most 65535, MaxPacket 256 MiB")
	}
	if o.Sessions.Max <= 0 {
		o.Sessions.Max = 64 << 20
	}
	after := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	after(&o.Sessions.Expiry, 7*24*time.Hour)
	after(&o.willGrace, willGrace)
	after(&o.keepEvery, keepEvery)
	after(&o.sysEvery, sysEvery)
	after(&o.pace.behind, usualPace.behind)
	after(&o.pace.every, usualPace.every)
	if o.listen == nil {
		o.listen = net.Listen
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	limits := o.Limits.withDefaults()
	b := &Broker{
		opt:            o,
		log:            o.Logger,
		limits:         limits,
		wire:           limits.packets(),
		maxPacket:      o.MaxPacket,
		maxQueued:      o.MaxQueued,
		receiveMaximum: o.ReceiveMaximum,
		conns:          make(map[*conn]struct{}),
		sessions:       make(map[string]*session),
		recalled:       make(map[string]bool),
		said:           make(map[string]time.Time),
		quit:           make(chan struct{}),
	}
	b.access.Store(&o.Access)
	b.server = newServer(o)
	if err := b.server.AddHook(&hook{b: b}, nil); err != nil {
		return nil, fmt.Errorf("new broker: %w", err)
	}
	b.route.groups = map[string]*group{}
	b.retained = retainedSet{b: b, of: map[string]*keptMessage{}, changed: map[string]struct{}{}}
	b.keeper.b, b.keeper.state = b, o.State
	if err := b.keeper.load(); err != nil {
		return nil, err
	}
	return b, nil
}

// serve is the life of a connection.
func (b *Broker) serve(c *conn, listener string) {
	defer b.wg.Done()
	err := c.handshake()
	if err == nil {
		err = b.establish(c, listener)
	}
	if err == nil && c.established {
		err = b.talk(c)
	}
	b.log.Debug("mqtt connection ended", "remote", c.RemoteAddr().String(), "err", err)
	b.detach(c)
	c.finish()
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
}

// establish runs mochi on the connection until that has answered CONNECT.
func (b *Broker) establish(c *conn, listener string) (err error) {
	defer c.succeed()
	defer b.survive(c, &err)
	defer func() { b.server.Clients.Delete(c.visit) }()
	err = b.server.EstablishConnection(listener, c)
	if c.established {
		err = nil
	}
	return err
}

// talk serves an established connection until it ends.
func (b *Broker) talk(c *conn) (err error) {
	defer b.survive(c, &err)
	atomic.AddInt64(&b.server.Info.ClientsConnected, 1)
	defer atomic.AddInt64(&b.server.Info.ClientsConnected, -1)
	return c.run()
}

// survive makes a panic cost the connection only.
func (b *Broker) survive(c *conn, err *error) {
	if r := recover(); r != nil {
		b.log.Error("mqtt connection failed", "remote", c.RemoteAddr().String(),
			"err", r, "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic: %v", r)
	}
}

// StopIntake stops accepting clients and reading from them. When it returns,
// Emit and Release are not called any more; acknowledgements of what was
// emitted are still sent. It waits for calls that block for back-pressure.
func (b *Broker) StopIntake() {
	for _, p := range b.ports {
		p.stop()
	}
	for _, c := range b.all() {
		c.pause()
	}
	b.intake.Lock()
	b.stopped = true
	b.intake.Unlock()
	for _, c := range b.all() { // accepted in the meantime
		c.pause()
	}
}

func (b *Broker) all() []*conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	return conns
}

// enterIntake allows a call of Emit or Release until leaveIntake, or forbids
// it for good.
func (b *Broker) enterIntake() bool {
	b.intake.RLock()
	if b.stopped {
		b.intake.RUnlock()
		return false
	}
	return true
}

func (b *Broker) leaveIntake() { b.intake.RUnlock() }

// Close stops the intake, disconnects all clients and waits until every
// goroutine of the broker has ended, which takes at most a few seconds.
// Acknowledgements that Emit has not granted by then are not sent. Wills are
// not published: the server goes, not the clients.
func (b *Broker) Close() error {
	b.StopIntake()
	b.mu.Lock()
	again := b.closed
	b.closed = true
	for _, s := range b.sessions {
		s.mu.Lock()
		s.cancelWill()
		s.mu.Unlock()
	}
	b.mu.Unlock()
	if !again {
		close(b.quit)
	}
	for _, c := range b.all() {
		c.disconnect(packet.ServerShuttingDown)
	}
	b.wg.Wait()
	if again {
		return nil
	}
	b.keeper.close()
	// mochi has no listeners and no clients of its own to wait for, so that
	// its deadlock in closing them cannot happen.
	return b.server.Close()
}

func (b *Broker) countReceived(n int) {
	b.count.received.Add(uint64(n))
	atomic.AddInt64(&b.server.Info.MessagesReceived, int64(n))
	atomic.AddInt64(&b.server.Info.PacketsReceived, int64(n))
}

// say logs a warning about a client, at most one a minute of a kind.
func (b *Broker) say(what, client string, err error) {
	now, key := time.Now(), what+"\x00"+client
	b.saying.Lock()
	last, ok := b.said[key]
	quiet := ok && now.Sub(last) < time.Minute
	if !quiet {
		if len(b.said) >= 1024 {
			clear(b.said)
		}
		b.said[key] = now
	}
	b.saying.Unlock()
	if !quiet {
		b.log.Warn(what, "client", client, "err", err)
	}
}
