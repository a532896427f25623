package mqttsink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"holdfast/gateway/forward"
)

const (
	dialTimeout = 10 * time.Second // to reach the far side, and again for its CONNACK
	goodbye     = 250 * time.Millisecond
	maxConnack  = 5 // the last return code of a CONNACK; what is above is paho's
)

// far is the broker on the far side and how to reach it.
type far struct {
	url          *url.URL
	label        string // as errors show it
	username     string
	password     string
	passwordFile string
	keepAlive    time.Duration
	tls          tlsSettings
	plain        atomic.Bool // it does not know bridges
}

// session is what one kind of connection asks of the far side.
type session struct {
	id       string
	gateway  string // the name of this one, for a far side that is one too; "" keeps it to itself
	keep     bool   // the far side keeps it while we are away
	will     *will
	received func(*link, paho.Message) // may block until the link is down
}

type will struct {
	topic   string
	payload []byte
	retain  bool
}

// connection is a paho client with the only network connection that it ever
// has. paho's token of a message is trusted in this mode alone: without
// reconnecting and with a clean session it completes without an error only by
// a PUBACK on this very connection. A client with a kept session never
// publishes more than its status.
type connection struct {
	paho.Client
	link    *link
	present bool // the far side has kept the session
	bridge  bool // the far side takes us for another broker
}

// Protocol levels. The second marks a bridge, as Mosquitto's do.
const (
	levelPlain  = 4
	levelBridge = 0x84
)

// connect makes a connection, as that of a bridge if the far side knows them.
// It returns soon after ctx ends.
func (f *far) connect(ctx context.Context, s session) (*connection, error) {
	if s.gateway == "" || f.plain.Load() {
		return f.try(ctx, s, levelPlain)
	}
	c, err := f.try(ctx, s, levelBridge)
	var strange *strangeError
	if !errors.As(err, &strange) {
		return c, err
	}
	if c, err = f.try(ctx, s, levelPlain); err == nil {
		f.plain.Store(true)
	}
	return c, err
}

// strangeError is that of a far side that may not know what a bridge is.
type strangeError struct{ error }

func (e *strangeError) Unwrap() error { return e.error }

func (f *far) try(ctx context.Context, s session, level uint) (*connection, error) {
	password, err := f.secret()
	if err != nil {
		return nil, err
	}
	conn, err := f.dial(ctx)
	if err != nil {
		return nil, f.explain(ctx, err)
	}
	l := newLink(conn)
	stop := context.AfterFunc(ctx, func() { l.fail(context.Cause(ctx)) })
	defer stop()

	o := paho.NewClientOptions().AddBroker(f.url.String()).SetClientID(s.id).SetProtocolVersion(level).
		SetAutoReconnect(false).SetConnectRetry(false).SetCleanSession(!s.keep).SetResumeSubs(false).
		SetAutoAckDisabled(true).SetOrderMatters(true).
		SetKeepAlive(f.keepAlive).SetPingTimeout(max(f.keepAlive, dialTimeout)).
		SetConnectTimeout(dialTimeout).
		SetWriteTimeout(500 * time.Millisecond). // bounds only what waits in vain for a lost connection
		SetUsername(f.username).SetPassword(password).
		SetConnectionLostHandler(nil).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return l, nil })
	if s.will != nil {
		o.SetBinaryWill(s.will.topic, s.will.payload, 1, s.will.retain)
	}
	if s.received != nil || level == levelBridge {
		o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
			if strings.HasPrefix(m.Topic(), introductions) {
				l.meet(string(m.Payload()))
			} else if s.received != nil {
				s.received(l, m)
			}
		})
	}
	c := paho.NewClient(o)
	token := c.Connect().(*paho.ConnectToken)
	<-token.Done() // the handshake has a deadline, and ends when the link does
	if err := token.Error(); err != nil {
		code := token.ReturnCode()
		if lost := l.cause(); lost != nil && code > maxConnack {
			err = lost // says more than paho
		}
		l.fail(err)
		refused := f.refused(ctx, code, err)
		if level == levelBridge && ctx.Err() == nil && (code == 1 || forward.IsHangUp(err)) {
			refused = &strangeError{refused}
		}
		return nil, refused
	}
	if !stop() {
		return nil, fmt.Errorf("%s: %w", f.label, ctx.Err())
	}
	return &connection{c, l, token.SessionPresent(), level == levelBridge}, nil
}

func (f *far) secret() (string, error) {
	if f.passwordFile == "" {
		return f.password, nil
	}
	text, err := os.ReadFile(f.passwordFile)
	if err != nil {
		return "", fmt.Errorf("read password_file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

func (f *far) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var secure *tls.Config
	if schemes[f.url.Scheme].tls {
		var err error
		if secure, err = f.tls.config(f.url.Hostname()); err != nil {
			return nil, err
		}
	}
	if schemes[f.url.Scheme].web {
		return dialWeb(ctx, f.url.String(), secure)
	}
	dialer := net.Dialer{KeepAlive: 30 * time.Second}
	if secure != nil {
		return (&tls.Dialer{NetDialer: &dialer, Config: secure}).DialContext(ctx, "tcp", f.url.Host)
	}
	return dialer.DialContext(ctx, "tcp", f.url.Host)
}

// dialWeb opens a WebSocket. paho's dialer knows no context: one that comes
// too late is closed unused.
func dialWeb(ctx context.Context, to string, secure *tls.Config) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := paho.NewWebsocket(to, secure, dialTimeout, http.Header{}, nil)
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// refused explains why there was no CONNACK, or not the one hoped for.
func (f *far) refused(ctx context.Context, code byte, err error) error {
	switch code {
	case 2:
		return fmt.Errorf("%s: the far side refuses the client identifier; check client_id", f.label)
	case 4, 5:
		return fmt.Errorf("%s: the far side refuses the login: %w; check username, password and client_id", f.label, err)
	}
	if ctx.Err() == nil && forward.IsHangUp(err) {
		return fmt.Errorf("%s: the far side hung up instead of answering; check the port, client_id, username, password, and tls.cert if it asks for a client certificate", f.label)
	}
	return f.explain(ctx, err)
}

// explain says what to do about a connection that was not made or was lost.
func (f *far) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", f.label, ctx.Err())
	}
	if forward.IsHangUp(err) {
		return fmt.Errorf("%s: the far side ended the connection", f.label)
	}
	return fmt.Errorf("%s: %w", f.label, forward.Unreachable(err))
}
