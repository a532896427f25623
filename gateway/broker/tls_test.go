package broker

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/gateway/broker/packet"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serials = struct {
	sync.Mutex
	n int64
}{}

func serial() *big.Int {
	serials.Lock()
	defer serials.Unlock()
	serials.n++
	return big.NewInt(serials.n)
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = serial(), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// server writes a certificate for the loopback and its key to files.
func (a *authority) server(cert, key string) (serial *big.Int) {
	a.t.Helper()
	c, k := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "gateway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	write(a.t, cert, pemOf("CERTIFICATE", c.Raw))
	write(a.t, key, pemOf("PRIVATE KEY", der))
	return c.SerialNumber
}

// client returns a certificate for a client.
func (a *authority) client(c *x509.Certificate) tls.Certificate {
	a.t.Helper()
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, key := a.sign(c)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// write replaces a file by another one. That is seen at once, however soon it is
// after the last time: the clock of file systems has steps of milliseconds.
func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// secure returns TLS settings with files of their own.
func secure(t testing.TB, a *authority) *TLS {
	t.Helper()
	dir := t.TempDir()
	s := &TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	a.server(s.Cert, s.Key)
	return s
}

// clientCA makes the settings ask for client certificates of an authority.
func clientCA(t testing.TB, s *TLS, a *authority) *TLS {
	t.Helper()
	s.ClientCA = filepath.Join(filepath.Dir(s.Cert), "ca.pem")
	write(t, s.ClientCA, pemOf("CERTIFICATE", a.cert.Raw))
	return s
}

// dialTLS connects; the error of a handshake may come with the first read.
func dialTLS(t testing.TB, b *Broker, v version, a *authority, certs ...tls.Certificate) (*client, error) {
	t.Helper()
	nc, err := tls.Dial("tcp", b.Addrs()[0].String(), &tls.Config{RootCAs: a.pool(), Certificates: certs})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { nc.Close() })
	return &client{Conn: nc, t: t, r: bufio.NewReader(nc), v5: bool(v)}, nil
}

func mustDialTLS(t testing.TB, b *Broker, v version, a *authority, certs ...tls.Certificate) *client {
	t.Helper()
	c, err := dialTLS(t, b, v, a, certs...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientsAreServedOverTLS(t *testing.T) {
	a := newAuthority(t)
	bothVersions(t, func(t *testing.T, v version) {
		l := newFakeLog()
		b := start(t, l, listens(Listener{TLS: secure(t, a)}))
		c := mustDialTLS(t, b, v, a)
		c.send(connectPacket(connectOptions{v: v, id: "a"}))
		c.connack(0)
		c.subscribe(filter{"#", 1})
		big := strings.Repeat("x", 200_000)
		c.publish(append(numbered(100), pub{topic: "big", payload: big, qos: 1, id: 200})...)
		for i := range 100 {
			c.expect(puback(uint16(i + 1))...)
		}
		c.expect(puback(200)...)
		route(b, l.events(t, 101)[100:])
		c.receives(received{Topic: "big", Payload: big, QoS: 1})
		b.Close()
		c.closed(packet.ServerShuttingDown)
	})
	t.Run("of at least version 1.2", func(t *testing.T) {
		b := start(t, newFakeLog(), listens(Listener{TLS: secure(t, a)}))
		_, err := tls.Dial("tcp", b.Addrs()[0].String(), &tls.Config{RootCAs: a.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		if err == nil {
			t.Error("TLS 1.1 was accepted")
		}
		plain := dial(t, b, v4)
		plain.send(connectPacket(connectOptions{id: "a"}))
		for {
			first, _, err := plain.read()
			if err != nil {
				break
			}
			if first == 0x20 {
				t.Fatal("a client without TLS was served")
			}
		}
	})
	t.Run("or not at all if the files are bad", func(t *testing.T) {
		s := secure(t, a)
		write(t, s.Key, []byte("nonsense"))
		b, err := New(Options{Listen: []Listener{{Address: "127.0.0.1:0"}, {Address: "127.0.0.1:0", TLS: s}}, Emit: newFakeLog().Emit})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Start(); err == nil || !strings.Contains(err.Error(), s.Key) {
			t.Errorf("got %v, want the name of the file", err)
		}
		b.Close()
	})
}

func TestAClientThatNeverEndsItsHandshakeDoesNotHoldUpTheEnd(t *testing.T) {
	for name, web := range map[string]*WebSocket{"tcp": nil, "websocket": {}} {
		for _, encrypted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, tls %v", name, encrypted), virtually(func(t *testing.T) {
				l := Listener{WebSocket: web}
				if encrypted {
					l.TLS = secure(t, newAuthority(t))
				}
				b := start(t, newFakeLog(), virtual, listens(l))
				c := dial(t, b, v4)
				c.send([]byte{22, 3, 1})
				go io.Copy(io.Discard, c.Conn)
				began := time.Now()
				b.Close()
				if took := time.Since(began); took > drainTimeout {
					t.Errorf("Close took %v", took)
				}
			}))
		}
	}
}

// lookAgain lets the listener look at its files at the next handshake.
func (b *Broker) lookAgain() { b.lookedAt(time.Time{}) }

// lookedAt is when the listener has looked at its files.
func (b *Broker) lookedAt(at time.Time) {
	k := b.ports[0].keys
	k.mu.Lock()
	k.looked = at
	k.mu.Unlock()
}

func TestACertificateIsReplacedWithoutARestart(t *testing.T) {
	a := newAuthority(t)
	for name, l := range map[string]Listener{"tcp": {}, "websocket": {WebSocket: &WebSocket{}}} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			l.TLS = secure(t, a)
			b := start(t, newFakeLog(), listens(l), func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
			shown := func() *big.Int {
				nc, err := tls.Dial("tcp", b.Addrs()[0].String(), &tls.Config{RootCAs: a.pool()})
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				return nc.ConnectionState().PeerCertificates[0].SerialNumber
			}
			old := shown()
			next := a.server(l.TLS.Cert, l.TLS.Key)
			b.lookedAt(time.Now().Add(time.Hour)) // however slow the machine is: less than a second ago
			if shown().Cmp(old) != 0 {
				t.Error("the files were looked at more than once a second")
			}
			b.lookAgain()
			if shown().Cmp(next) != 0 {
				t.Fatal("the old certificate is still in use")
			}
			write(t, l.TLS.Cert, []byte("half a cert"))
			for range 3 {
				b.lookAgain()
				if shown().Cmp(next) != 0 {
					t.Fatal("a broken file took the good certificate away")
				}
			}
			if err := os.Remove(l.TLS.Key); err != nil {
				t.Fatal(err)
			}
			b.lookAgain()
			if shown().Cmp(next) != 0 {
				t.Fatal("a missing file took the good certificate away")
			}
			last := a.server(l.TLS.Cert, l.TLS.Key)
			b.lookAgain()
			if shown().Cmp(last) != 0 {
				t.Fatal("the broken file was replaced, but not the certificate")
			}
			b.Close()
			if n := strings.Count(logged.String(), "cannot be replaced"); n != 2 {
				t.Errorf("logged %d times, want once for each broken version:\n%s", n, &logged)
			}
		})
	}
}

func TestAClientCertificateNamesTheUser(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	named := func(cn string) tls.Certificate {
		return a.client(&x509.Certificate{Subject: pkix.Name{CommonName: cn}})
	}
	site, _ := url.Parse("spiffe://plant/pump")
	const refused = 0x86
	for _, c := range []struct {
		name     string
		from     string
		optional bool
		certs    []tls.Certificate
		o        connectOptions
		code     byte
		user     string
	}{
		{name: "common name", certs: []tls.Certificate{named("pump")}, user: "pump"},
		{name: "whatever the client says", certs: []tls.Certificate{named("pump")}, o: connectOptions{user: "valve", password: "no"}, user: "pump"},
		{name: "no common name", certs: []tls.Certificate{named("")}, code: refused},
		{name: "a common name with a line break", certs: []tls.Certificate{named("a\nb")}, code: refused},
		{name: "DNS name", from: UserFromSAN, certs: []tls.Certificate{a.client(&x509.Certificate{
			Subject: pkix.Name{CommonName: "no"}, DNSNames: []string{"pump.plant", "x"}, EmailAddresses: []string{"e@x"}})}, user: "pump.plant"},
		{name: "e-mail address", from: UserFromSAN, certs: []tls.Certificate{a.client(&x509.Certificate{EmailAddresses: []string{"pump@plant"}, URIs: []*url.URL{site}})}, user: "pump@plant"},
		{name: "URI", from: UserFromSAN, certs: []tls.Certificate{a.client(&x509.Certificate{URIs: []*url.URL{site}})}, user: "spiffe://plant/pump"},
		{name: "no alternative name", from: UserFromSAN, certs: []tls.Certificate{named("pump")}, code: refused},
		{name: "optional and not there", optional: true, o: connectOptions{user: "valve", password: "valve"}, user: "valve"},
		{name: "optional and not there, nor a password", optional: true, code: refused},
		{name: "optional and there", optional: true, certs: []tls.Certificate{named("pump")}, user: "pump"},
		{name: "not asked for a name, right password", from: UserFromNone, certs: []tls.Certificate{named("pump")}, o: connectOptions{user: "valve", password: "valve"}, user: "valve"},
		{name: "not asked for a name, no password", from: UserFromNone, certs: []tls.Certificate{named("pump")}, code: refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := clientCA(t, secure(t, a), a)
			s.Optional, s.UserFrom = c.optional, c.from
			b := start(t, newFakeLog(), listens(Listener{TLS: s}), func(o *Options) { o.Users = users(t, "valve", "valve") })
			cl := mustDialTLS(t, b, v5, a, c.certs...)
			c.o.v, c.o.id = v5, "a"
			cl.send(connectPacket(c.o))
			cl.connack(c.code)
			if c.code != 0 {
				return
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			if got := b.sessions["a"].user; got != c.user {
				t.Errorf("the user is %q, want %q", got, c.user)
			}
		})
	}
	for name, certs := range map[string][]tls.Certificate{
		"no certificate":           nil,
		"one of another authority": {other.client(&x509.Certificate{Subject: pkix.Name{CommonName: "pump"}})},
		"one that is not meant for client": {func() tls.Certificate {
			c, k := a.sign(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: k}
		}()},
	} {
		t.Run("none with "+name, func(t *testing.T) {
			b := start(t, newFakeLog(), listens(Listener{TLS: clientCA(t, secure(t, a), a)}))
			c, err := dialTLS(t, b, v4, a, certs...)
			if err == nil {
				_, _ = c.Write(connectPacket(connectOptions{id: "a"}))
				_, _, err = c.read()
			}
			if err == nil || !strings.Contains(err.Error(), "tls:") {
				t.Errorf("got %v, want to be told what is wrong", err)
			}
		})
	}
}

func TestAReplacedAuthorityShutsOutTheCertificatesOfTheOldOne(t *testing.T) {
	a, next := newAuthority(t), newAuthority(t)
	s := clientCA(t, secure(t, a), a)
	b := start(t, newFakeLog(), listens(Listener{TLS: s}))
	config := &tls.Config{
		RootCAs: a.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1),
		Certificates: []tls.Certificate{a.client(&x509.Certificate{Subject: pkix.Name{CommonName: "pump"}})},
	}
	try := func() (resumed bool, err error) {
		nc, err := tls.Dial("tcp", b.Addrs()[0].String(), config)
		if err != nil {
			return false, err
		}
		defer nc.Close()
		c := &client{Conn: nc, t: t, r: bufio.NewReader(nc)}
		c.send(connectPacket(connectOptions{id: "a", keep: true}))
		if _, body, err := c.read(); err != nil || body[1] != 0 {
			return false, fmt.Errorf("not let in: % x, %w", body, err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if user := b.sessions["a"].user; user != "pump" {
			t.Errorf("the user is %q", user)
		}
		return nc.ConnectionState().DidResume, nil
	}
	if _, err := try(); err != nil {
		t.Fatal(err)
	}
	if resumed, err := try(); err != nil || !resumed {
		t.Fatalf("resumed %v, %v: this test then says nothing", resumed, err)
	}
	clientCA(t, s, next)
	b.lookAgain()
	if _, err := try(); err == nil {
		t.Error("a certificate of the old authority was taken")
	}
}
