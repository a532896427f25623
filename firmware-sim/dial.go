package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// dialer makes MQTT connections to the broker.
type dialer struct {
	shown    string // the broker, without password
	address  string
	tls      *tls.Config // nil: plain TCP
	username string
	password string
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

const connectTimeout = 10 * time.Second

func newDialer(o Options) (*dialer, error) {
	u, err := url.Parse(o.Broker)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("broker %q: give tcp://HOST:PORT or tls://HOST:PORT", o.Broker)
	}
	d := &dialer{shown: u.Redacted(), username: o.Username, password: o.Password, dial: o.Dial}
	port := "1883"
	switch u.Scheme {
	case "tcp", "mqtt":
	case "tls", "ssl", "mqtts":
		port = "8883"
		d.tls = o.TLS.Clone()
		if d.tls == nil {
			d.tls = &tls.Config{}
		}
		if d.tls.ServerName == "" {
			d.tls.ServerName = u.Hostname()
		}
	default:
		return nil, fmt.Errorf("broker %q: cannot speak %q; give tcp:// or tls://", d.shown, u.Scheme)
	}
	if p := u.Port(); p != "" {
		port = p
	}
	d.address = net.JoinHostPort(u.Hostname(), port)
	if u.User != nil && d.username == "" {
		d.username = u.User.Username()
		d.password, _ = u.User.Password()
	}
	if d.dial == nil {
		d.dial = (&net.Dialer{}).DialContext
	}
	return d, nil
}

// link is one connection of a board.
type link struct {
	client paho.Client
	conn   net.Conn
	lost   chan struct{} // closed when it has broken
}

// connect makes a connection for a board. It is given up when ctx ends.
func (d *dialer) connect(ctx context.Context, b *board) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := d.dial(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		secure := tls.Client(conn, d.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = secure
	}
	l := &link{conn: conn, lost: make(chan struct{})}
	o := paho.NewClientOptions().AddBroker("tcp://"+d.address).SetClientID(b.id).
		SetUsername(d.username).SetPassword(d.password).
		SetProtocolVersion(4).SetKeepAlive(30*time.Second).SetConnectTimeout(connectTimeout).SetWriteTimeout(10*time.Second).
		// With AutoReconnect, or without CleanSession, the token of a message
		// says nothing, or nothing in time, of whether it was acknowledged.
		SetAutoReconnect(false).SetConnectRetry(false).SetCleanSession(true).
		SetWill(b.prefix+statusMetric, willPayload, 1, true).
		SetConnectionLostHandler(func(paho.Client, error) { close(l.lost) }).
		// The connection is ours, because only so can it be broken without a
		// DISCONNECT.
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return conn, nil })
	l.client = paho.NewClient(o)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	token := l.client.Connect()
	token.Wait() // ends with ctx, by which the connection is closed
	if err := token.Error(); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return nil, err
	}
	return l, nil
}

// cut breaks the connection without a word, so that the broker publishes the
// will.
func (l *link) cut() { l.conn.Close() }

// leave ends the connection with a DISCONNECT.
func (l *link) leave() {
	l.client.Disconnect(250)
	l.conn.Close()
}
