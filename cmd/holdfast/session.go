package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// brokerPatience is how long a broker may take to answer CONNECT and SUBSCRIBE.
const brokerPatience = 10 * time.Second

// session is a connection to a broker over MQTT 5, which says why it refuses
// something. It does not come back once lost.
type session struct {
	address string
	client  *paho.Client
	state   *state.State // of what is under way
	conn    net.Conn

	maxQoS    byte // that the broker takes
	forgetful bool // it retains nothing

	end  sync.Once
	lost chan struct{} // closed when the connection is lost
	why  error         // of that
}

// connect opens a session of the given name, with a random client id, that
// keeps nothing on the broker. Every message that comes goes to receive, which
// may be nil.
func (f *mqttFlags) connect(ctx context.Context, name string, receive func(*paho.Publish)) (*session, error) {
	address, err := f.broker()
	if err != nil {
		return nil, err
	}
	encryption, err := f.tls.config(address)
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx, address, encryption)
	if err != nil {
		return nil, err
	}
	s := &session{address: address, state: state.NewInMemory(), conn: packets.NewThreadSafeConn(conn), maxQoS: 2, lost: make(chan struct{})}
	config := paho.ClientConfig{
		Conn: s.conn, Session: s.state, PacketTimeout: brokerPatience,
		OnServerDisconnect: func(d *paho.Disconnect) {
			r := refusal{code: d.ReasonCode}
			if d.Properties != nil {
				r.text = d.Properties.ReasonString
			}
			s.lose(fmt.Errorf("the broker ended it: %s", r.reason()))
		},
		OnClientError: s.lose,
	}
	if receive != nil {
		config.OnPublishReceived = []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			receive(r.Packet)
			return true, nil
		}}
	}
	s.client = paho.NewClient(config)
	hello := &paho.Connect{ClientID: "holdfast-" + name + "-" + randomHex(), KeepAlive: 30, CleanStart: true}
	if f.user != "" {
		hello.Username, hello.UsernameFlag = f.user, true
		hello.Password, hello.PasswordFlag = []byte(f.secret()), f.secret() != ""
	}
	answer, err := s.client.Connect(ctx, hello)
	var refused refusal
	if answer != nil && answer.ReasonCode >= 0x80 {
		refused.code = answer.ReasonCode
		if answer.Properties != nil {
			refused.text = answer.Properties.ReasonString
		}
	}
	switch {
	case err == nil:
		if p := answer.Properties; p != nil {
			s.forgetful = !p.RetainAvailable
			if p.MaximumQoS != nil {
				s.maxQoS = *p.MaximumQoS
			}
		}
		return s, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case refused.login() && f.user != "":
		return nil, fmt.Errorf("connect to %s: %w; check -u %s, and -P or $HOLDFAST_PASSWORD", address, refused, quote(f.user))
	case refused.login():
		return nil, fmt.Errorf("connect to %s: %w; give -u, and -P or $HOLDFAST_PASSWORD, of a user who may connect", address, refused)
	case refused.code != 0:
		return nil, fmt.Errorf("connect to %s: %w", address, refused)
	case encryption == nil:
		return nil, fmt.Errorf("connect to %s: %w; it must speak MQTT 5, and if it wants TLS, give --tls or --ca", address, err)
	}
	return nil, fmt.Errorf("connect to %s: %w; it must speak MQTT 5", address, err)
}

// dial opens the connection, over TLS unless encryption is nil.
func dial(ctx context.Context, address string, encryption *tls.Config) (net.Conn, error) {
	limit, cancel := context.WithTimeout(ctx, brokerPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(limit, "tcp", address)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, fmt.Errorf("%w at %s: %w; is the gateway running?", errBroker, address, cause(err))
	}
	if encryption == nil {
		return conn, nil
	}
	over := tls.Client(conn, encryption)
	if err := over.HandshakeContext(limit); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("connect to %s: %w; give --ca the authority that signed the broker's certificate", address, err)
	}
	return over, nil
}

// lose notes that the connection is gone, and why.
func (s *session) lose(err error) {
	s.end.Do(func() {
		s.why = fmt.Errorf("the connection to %s was lost: %w", s.address, err)
		close(s.lost)
	})
}

// open reports whether the connection stands.
func (s *session) open() bool {
	select {
	case <-s.lost:
		return false
	default:
		return true
	}
}

// close says goodbye to the broker and drops the connection.
func (s *session) close() {
	_ = s.client.Disconnect(&paho.Disconnect{}) // it may be gone already
	_ = s.state.Close()
}

// publish sends a message behind those published before, as soon as the broker
// takes one more. What it returns waits for the acknowledgement.
func (s *session) publish(ctx context.Context, m *paho.Publish) (acknowledged func(context.Context) error) {
	failed := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	switch {
	case m.QoS > s.maxQoS:
		return failed(fmt.Errorf("the broker takes no more than QoS %d; give --qos %d", s.maxQoS, s.maxQoS))
	case s.forgetful && m.Retain:
		return failed(errors.New("the broker retains nothing; leave --retain out"))
	case m.QoS == 0:
		if _, err := s.client.Publish(ctx, m); err != nil {
			return func(ctx context.Context) error { return s.fault(ctx, err) }
		}
		return failed(nil)
	}
	// The client would send a message that waits behind one that does not, and
	// tells nobody about those that it does not wait for; its session does.
	answer := make(chan packets.ControlPacket, 1)
	p := m.Packet()
	err := s.state.AddToSession(ctx, p, answer)
	if err == nil {
		_, err = p.WriteTo(s.conn)
	}
	if err != nil {
		return func(ctx context.Context) error { return s.fault(ctx, err) }
	}
	return func(ctx context.Context) error {
		select {
		case a := <-answer:
			return judge(a)
		case <-ctx.Done():
			return ctx.Err()
		case <-s.lost:
		}
		select {
		case a := <-answer: // it came before
			return judge(a)
		default:
			return s.why
		}
	}
}

// fault returns why the connection was lost, for an error that is the
// consequence of that; ctx bounds how long it waits to hear it.
func (s *session) fault(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	select {
	case <-s.lost:
		return s.why
	case <-ctx.Done():
		return err
	}
}

// judge returns what the last answer to a message says against it.
func judge(answer packets.ControlPacket) error {
	var r refusal
	var p *packets.Properties
	switch a := answer.Content.(type) {
	case *packets.Puback:
		r.code, p = a.ReasonCode, a.Properties
	case *packets.Pubrec:
		r.code, p = a.ReasonCode, a.Properties
	case *packets.Pubcomp:
		r.code, p = a.ReasonCode, a.Properties
	default:
		return errors.New("the connection was closed before the acknowledgement")
	}
	if r.code < 0x80 {
		return nil
	}
	if p != nil {
		r.text = p.ReasonString
	}
	return r
}

// subscribe subscribes to filters and returns when that is in force.
func (s *session) subscribe(ctx context.Context, filters []string, qos byte) error {
	var all paho.Subscribe
	for _, f := range filters {
		all.Subscriptions = append(all.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: qos})
	}
	answer, err := s.client.Subscribe(ctx, &all)
	switch {
	case answer == nil && !s.open():
		return s.why
	case answer == nil:
		return fmt.Errorf("subscribe: %w", err)
	}
	var errs []error
	for i, code := range answer.Reasons {
		if code < 0x80 || i >= len(filters) {
			continue
		}
		r := refusal{code: code}
		if answer.Properties != nil {
			r.text = answer.Properties.ReasonString
		}
		errs = append(errs, fmt.Errorf("subscribe to %s: %w", quote(filters[i]), r))
	}
	return errors.Join(errs...)
}
