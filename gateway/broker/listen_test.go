package broker

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

func listens(l Listener) func(*Options) {
	return func(o *Options) {
		l.Address = "127.0.0.1:0"
		o.Listen = []Listener{l}
	}
}

func TestPahoClientsConnectByEveryKindOfListener(t *testing.T) {
	a := newAuthority(t)
	cert := a.client(&x509.Certificate{Subject: pkix.Name{CommonName: "pump"}})
	for scheme, l := range map[string]Listener{
		"ws":  {WebSocket: &WebSocket{Path: "/broker"}},
		"ssl": {TLS: clientCA(t, secure(t, a), a)},
		"wss": {TLS: clientCA(t, secure(t, a), a), WebSocket: &WebSocket{Path: "/broker"}},
	} {
		t.Run(scheme, func(t *testing.T) {
			l := l
			log := newFakeLog()
			b := start(t, log, listens(l), func(o *Options) {
				if l.TLS != nil {
					o.ACL = acl(t, "allow publish,subscribe pump plant/%u/%c")
				}
			})
			o := paho.NewClientOptions().AddBroker(scheme + "://" + b.Addrs()[0].String() + "/broker").SetClientID("one").
				SetAutoReconnect(false).SetConnectRetry(false).
				SetTLSConfig(&tls.Config{RootCAs: a.pool(), Certificates: []tls.Certificate{cert}})
			c := paho.NewClient(o)
			wait(t, c.Connect())
			defer c.Disconnect(50)
			got := make(chan string, 1)
			wait(t, c.Subscribe("plant/pump/one", 1, func(_ paho.Client, m paho.Message) { got <- string(m.Payload()) }))
			wait(t, c.Publish("plant/pump/one", 1, false, "hello"))
			route(b, log.events(t, 1))
			select {
			case m := <-got:
				if m != "hello" {
					t.Errorf("got %q", m)
				}
			case <-time.After(patience):
				t.Error("the message did not arrive")
			}
		})
	}
}
