package broker

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// paho5 connects the MQTT 5 client of Eclipse, whose session lasts.
func paho5(t *testing.T, b *Broker, id string, got chan *paho.Publish) *autopaho.ConnectionManager {
	t.Helper()
	server, err := url.Parse("mqtt://" + b.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	cfg := autopaho.ClientConfig{ServerUrls: []*url.URL{server}, KeepAlive: 20, SessionExpiryInterval: 600, ConnectTimeout: patience}
	cfg.ClientID, cfg.PacketTimeout = id, patience
	cfg.OnPublishReceived = []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
		got <- p.Packet
		return true, nil
	}}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := autopaho.NewConnection(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AwaitConnection(ctx); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPaho5ClientsTalkToEachOtherAndComeBackToTheirSessions(t *testing.T) {
	const n = 200
	s := newSite(t)
	sent := 0
	from := paho5(t, s.Broker, "from", make(chan *paho.Publish, n))
	for _, qos := range []byte{0, 1, 2} {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			got := make(chan *paho.Publish, 2*n)
			id, topic := fmt.Sprint("to", qos), fmt.Sprint("q/", qos)
			to := paho5(t, s.Broker, id, got)
			if _, err := to.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: qos}}}); err != nil {
				t.Fatal(err)
			}
			send := func(i int) {
				t.Helper()
				_, err := from.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: qos, Payload: fmt.Append(nil, i)})
				if err != nil {
					t.Fatal(err)
				}
				sent++
				s.route(s.log.events(t, sent)[sent-1])
			}
			want := func(i int) {
				t.Helper()
				select {
				case p := <-got:
					if string(p.Payload) != fmt.Sprint(i) {
						t.Fatalf("got message %s, want %d", p.Payload, i)
					}
				case <-time.After(patience):
					t.Fatalf("message %d did not come", i)
				}
			}
			for i := range n {
				send(i)
			}
			for i := range n {
				want(i)
			}
			if qos == 0 {
				return
			}
			s.mu.Lock()
			of := s.sessions[id]
			s.mu.Unlock()
			eventually(t, "the end of the last delivery", func() bool { // paho gives out a message before it answers it
				of.out.mu.Lock()
				defer of.out.mu.Unlock()
				return of.out.window.count == 0
			})
			if err := to.Disconnect(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "its end", func() bool {
				of.mu.Lock()
				defer of.mu.Unlock()
				return of.conn == nil
			})
			for i := range n {
				send(i)
			}
			paho5(t, s.Broker, id, got)
			for i := range n {
				want(i)
			}
		})
	}
}
