package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/spf13/cobra"
)

// defaultBroker is where a gateway on this machine listens.
const defaultBroker = "127.0.0.1:1883"

// mqttFlags say which broker `pub` and `sub` talk to, and as whom.
type mqttFlags struct {
	config   configFlag
	address  string
	user     string
	password string
	tls      tlsFlags
	qos      uint8
}

func (f *mqttFlags) register(cmd *cobra.Command) {
	f.config.register(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&f.address, "address", "a", "", "broker, as `HOST:PORT` (default: that of the configuration given, else "+defaultBroker+")")
	fl.StringVarP(&f.user, "user", "u", "", "`NAME` to log in as")
	fl.StringVarP(&f.password, "password", "P", "", "`PASSWORD` of that user (default $HOLDFAST_PASSWORD, which other users cannot see)")
	f.tls.register(cmd)
	fl.Uint8VarP(&f.qos, "qos", "q", 1, "quality of service: 0, 1 or 2")
}

// check finds the mistakes that parsing the flags did not.
func (f *mqttFlags) check() error {
	if f.qos > 2 {
		return usagef("--qos is 0, 1 or 2, not %d", f.qos)
	}
	if err := f.tls.check(); err != nil {
		return err
	}
	if f.address != "" {
		if _, _, err := net.SplitHostPort(f.address); err != nil {
			return usagef("--address %s: give HOST:PORT", quote(f.address))
		}
	}
	return nil
}

// broker returns the address to connect to.
func (f *mqttFlags) broker() (string, error) {
	if f.address != "" {
		return f.address, nil
	}
	if !f.config.given() {
		return defaultBroker, nil
	}
	cfg, err := f.config.load()
	if err != nil {
		return "", err
	}
	for _, l := range cfg.MQTT.Listen {
		if (l.TLS != nil) == f.tls.on() && l.WebSocket == nil {
			return dialable(l.Address), nil
		}
	}
	if f.tls.on() {
		return "", usagef("the configuration has no mqtt.listen with tls and without websocket; give --address HOST:PORT")
	}
	return "", usagef("the configuration has no mqtt.listen without tls and websocket; give --tls or --ca, or --address HOST:PORT")
}

// dialable turns an address to listen on into one to connect to: what listens
// on every interface is reached through the loopback.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// session is a connection to a broker. It does not come back once lost.
type session struct {
	mqtt.Client
	address string
	lost    chan error // delivers why the connection was lost
}

// connect opens a session of the given name, with a random client id, that
// keeps nothing on the broker. Every message that comes goes to receive, which
// may be nil.
func (f *mqttFlags) connect(ctx context.Context, name string, receive mqtt.MessageHandler) (*session, error) {
	address, err := f.broker()
	if err != nil {
		return nil, err
	}
	encryption, err := f.tls.config(address)
	if err != nil {
		return nil, err
	}
	s := &session{address: address, lost: make(chan error, 1)}
	var refused, untrusted error // by the network, by TLS; not by the broker
	o := mqtt.NewClientOptions().
		AddBroker("tcp://" + address).
		SetClientID("holdfast-" + name + "-" + randomHex()).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(10 * time.Second).
		SetUsername(f.user).
		SetPassword(f.secret()).
		SetDefaultPublishHandler(receive).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { s.lost <- err }).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			var d net.Dialer
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			conn, err := d.DialContext(ctx, "tcp", address)
			refused = err
			if err != nil || encryption == nil {
				return conn, err
			}
			over := tls.Client(conn, encryption)
			if err := over.HandshakeContext(ctx); err != nil {
				conn.Close()
				untrusted = err
				return nil, err
			}
			return over, nil
		})
	s.Client = mqtt.NewClient(o)
	err = wait(ctx, s.Connect())
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case refused != nil:
		return nil, fmt.Errorf("%w at %s: %w; is the gateway running?", errBroker, address, cause(refused))
	case untrusted != nil:
		return nil, fmt.Errorf("connect to %s: %w; give --ca the authority that signed the broker's certificate", address, untrusted)
	case f.user == "" && encryption == nil:
		return nil, fmt.Errorf("connect to %s: %w; if it wants TLS, give --tls or --ca, and if a password, -u and -P", address, err)
	case f.user == "":
		return nil, fmt.Errorf("connect to %s: %w; if it wants a password, give -u and -P", address, err)
	}
	return nil, fmt.Errorf("connect to %s as %s: %w", address, quote(f.user), err)
}

func (f *mqttFlags) secret() string {
	if f.password != "" {
		return f.password
	}
	return os.Getenv("HOLDFAST_PASSWORD")
}

// close says goodbye to the broker and drops the connection.
func (s *session) close() { s.Disconnect(250) }

// wait returns when the broker has answered the request behind t or ctx ends.
func wait(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cause drops what net puts before the reason: the address is already told.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		var sys *os.SyscallError
		if errors.As(op.Err, &sys) {
			return sys.Err
		}
		return op.Err
	}
	return err
}

func randomHex() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
