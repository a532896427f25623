package sim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// listen serves the fake broker on a real socket.
func listen(t *testing.T, b *fakeBroker, config *tls.Config) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	if config != nil {
		l = tls.NewListener(l, config)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.open.Go(func() { b.serve(c) })
		}
	}()
	return address
}

// onWrite is called with each line of a log.
type onWrite func()

func (f onWrite) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// The only tests on real sockets and in real time: 12 s of boards in 0.3 s.
func TestItSpeaksTCPAndTLS(t *testing.T) {
	authority := httptest.NewTLSServer(nil) // for its certificate
	defer authority.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(authority.Certificate())
	for name, c := range map[string]struct {
		scheme  string
		server  *tls.Config
		client  *tls.Config
		refused string
	}{
		"tcp":                     {scheme: "tcp"},
		"tls":                     {scheme: "tls", server: authority.TLS, client: &tls.Config{RootCAs: trusted}},
		"tls of nobody we know":   {scheme: "mqtts", server: authority.TLS, refused: "certificate"},
		"tcp where tls is wanted": {scheme: "tls", refused: "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFakeBroker(t)
			o := Options{
				Broker: c.scheme + "://" + listen(t, b, c.server), TLS: c.client,
				Scenario: scenario(t, oneBoard), For: 12 * time.Second, Speed: 40, Drain: time.Minute,
			}
			o.Scenario.Boards[0].Buffer = 10_000 // however long the connection takes to be made
			ctx, end := context.WithCancel(t.Context())
			defer end()
			if c.refused != "" { // until there is trouble, however long that takes
				o.For, o.Drain, o.Log = 0, 50*time.Millisecond, slog.New(slog.NewTextHandler(onWrite(end), nil))
			}
			stats, err := Run(ctx, o)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("error %v, want one of %s", err, c.refused)
				}
				return
			}
			if err != nil || stats.Published < 100 || stats.Unacknowledged() != 0 {
				t.Errorf("stats %+v, error %v", stats, err)
			}
		})
	}
}
