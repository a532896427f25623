package httpsink_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// authority issues certificates for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	a.cert, a.key, a.pem, _ = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	})
	return a
}

func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore = c.NotAfter.Add(-2 * time.Hour)
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
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key,
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// issue returns a certificate for a host name, or for 127.0.0.1 if it is "".
func (a *authority) issue(host string, notAfter time.Time) (cert, key []byte) {
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: "leaf"}, NotAfter: notAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if host == "" {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	} else {
		c.DNSNames = []string{host}
	}
	_, _, cert, key = a.sign(c)
	return cert, key
}

func (a *authority) server(host string, notAfter time.Time) tls.Certificate {
	cert, err := tls.X509KeyPair(a.issue(host, notAfter))
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// tlsFar is a far side with a certificate that a test may change.
func tlsFar(t *testing.T, first tls.Certificate, clients *authority) (*httptest.Server, *atomic.Pointer[tls.Certificate]) {
	var current atomic.Pointer[tls.Certificate]
	current.Store(&first)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("X-Client", r.TLS.PeerCertificates[0].SerialNumber.String())
		}
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := &tls.Config{Certificates: []tls.Certificate{*current.Load()}}
		if clients != nil {
			c.ClientAuth = tls.RequireAndVerifyClientCert
			c.ClientCAs = x509.NewCertPool()
			c.ClientCAs.AddCert(clients.cert)
		}
		return c, nil
	}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv, &current
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyTheRightFarSideIsTrusted(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for _, c := range []struct {
		name     string
		cert     tls.Certificate
		settings string
		want     string // "" means accepted
	}{
		{"by address", ours.server("", soon), "tls: {ca: ca.pem}", ""},
		{"by server_name", ours.server("ingest.example.com", soon), "tls: {ca: ca.pem, server_name: ingest.example.com}", ""},
		{"another authority", other.server("", soon), "tls: {ca: ca.pem}", "set tls.ca"},
		{"no tls.ca", ours.server("", soon), "", "set tls.ca"},
		{"another address", ours.server("ingest.example.com", soon), "tls: {ca: ca.pem}", "set tls.server_name"},
		{"another server_name", ours.server("ingest.example.com", soon), "tls: {ca: ca.pem, server_name: evil.example.com}", "set tls.server_name"},
		{"expired", ours.server("", past), "tls: {ca: ca.pem}", "the clock of this device"},
		{"tls.ca is missing", ours.server("", soon), "tls: {ca: missing.pem}", "read tls.ca"},
		{"tls.ca is no certificate", ours.server("", soon), "tls: {ca: empty.pem}", "has no certificate in PEM"},
		{"client certificate is missing", ours.server("", soon), "tls: {ca: ca.pem, cert: missing.pem, key: missing.pem}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "ca.pem", ours.pem)
			write(t, "empty.pem", nil)
			srv, _ := tlsFar(t, c.cert, nil)
			err := open(t, "url: "+srv.URL+"\n"+c.settings).Send(t.Context(), batch(1))
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v, want accepted", err)
			case c.want != "" && (verdictOf(err) != temporary || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRenewedCertificatesNeedNoRestart(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	soon := time.Now().Add(time.Hour)
	first, second, clients := newAuthority(t, "first"), newAuthority(t, "second"), newAuthority(t, "clients")
	srv, current := tlsFar(t, first.server("", soon), clients)

	write(t, path("ca.pem"), first.pem)
	cert, key := newAuthority(t, "strangers").issue("gateway", soon)
	write(t, path("gw.pem"), cert)
	write(t, path("gw.key"), key)
	s := open(t, fmt.Sprintf("url: %s\ntls: {ca: %s, cert: %s, key: %s}", srv.URL, path("ca.pem"), path("gw.pem"), path("gw.key")))

	err := s.Send(t.Context(), batch(1))
	if verdictOf(err) != temporary || !strings.Contains(err.Error(), "check tls.cert and tls.key") {
		t.Errorf("with a strange client certificate: %v", err)
	}

	cert, key = clients.issue("gateway", soon)
	write(t, path("gw.pem"), cert)
	write(t, path("gw.key"), key)
	for range 2 {
		if err := s.Send(t.Context(), batch(1)); err != nil {
			t.Fatalf("with the right client certificate: %v", err)
		}
	}

	renewed := second.server("", soon)
	current.Store(&renewed)
	srv.CloseClientConnections()
	if err := s.Send(t.Context(), batch(1)); err == nil || !strings.Contains(err.Error(), "set tls.ca") {
		t.Errorf("with the old authority: %v", err)
	}
	write(t, path("ca.pem"), second.pem)
	if err := s.Send(t.Context(), batch(1)); err != nil {
		t.Errorf("with the new authority: %v", err)
	}
}
