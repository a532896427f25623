package mqttsink_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"holdfast/gateway/forward"
)

// certificate issues a certificate for name, signed by parent or by itself.
func certificate(t testing.TB, name string, parent *tls.Certificate) (tls.Certificate, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	by, signer := c, any(key)
	if parent != nil {
		by, signer = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair, certPEM, keyPEM
}

// relay passes what comes over l on to the far side.
func relay(t testing.TB, l net.Listener, f *far) {
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				if tc, ok := in.(*tls.Conn); ok && tc.Handshake() != nil {
					return
				}
				out, err := net.Dial("tcp", f.listener.Addr().String())
				if err != nil {
					return
				}
				defer out.Close()
				go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
				_, _ = io.Copy(out, in)
			}()
		}
	}()
}

func TestTLSTrustsOnlyTheRightFarSideAndShowsItsOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	authority, caPEM, _ := certificate(t, "authority", nil)
	_, otherPEM, _ := certificate(t, "other", nil)
	server, _, _ := certificate(t, "broker.example.com", &authority)
	_, certPEM, keyPEM := certificate(t, "gateway", &authority)
	write(t, dir+"/ca.pem", caPEM)
	write(t, dir+"/other.pem", otherPEM)
	write(t, dir+"/empty.pem", nil)
	write(t, dir+"/gw.pem", certPEM)
	write(t, dir+"/gw.key", keyPEM)

	f := newFar(t)
	pool := x509.NewCertPool()
	pool.AddCert(authority.Leaf)
	protocols := make(chan string, 100)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		NextProtos:       []string{"x-amzn-mqtt-ca"},
		VerifyConnection: func(cs tls.ConnectionState) error { protocols <- cs.NegotiatedProtocol; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	relay(t, l, f)
	for _, c := range []struct{ name, tls, want string }{
		{"right", "{ca: DIR/ca.pem, server_name: broker.example.com, cert: DIR/gw.pem, key: DIR/gw.key, alpn: [x-amzn-mqtt-ca]}", ""},
		{"another authority", "{ca: DIR/other.pem, server_name: broker.example.com, cert: DIR/gw.pem, key: DIR/gw.key}", "set tls.ca"},
		{"another name", "{ca: DIR/ca.pem, server_name: evil.example.com, cert: DIR/gw.pem, key: DIR/gw.key}", "set tls.server_name"},
		{"no certificate", "{ca: DIR/ca.pem, server_name: broker.example.com}", "tls.cert"},
		{"no authority", "{ca: DIR/missing.pem}", "read tls.ca"},
		{"empty authority", "{ca: DIR/empty.pem}", "no certificate in PEM"},
		{"missing certificate", "{ca: DIR/ca.pem, cert: DIR/missing.pem, key: DIR/gw.key}", "read tls.cert"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, "url: ssl://"+l.Addr().String()+"\ntls: "+strings.ReplaceAll(c.tls, "DIR", dir))
			err := sendWithin(s, patience, numbered(1, 3))
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want == "":
				if p := <-protocols; p != "x-amzn-mqtt-ca" {
					t.Errorf("application protocol %q", p)
				}
			case err == nil || !strings.Contains(err.Error(), c.want) || forward.IsPermanent(err):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestWebSocketCarriesTheSame(t *testing.T) {
	f := newFar(t)
	var got http.Header
	var path string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, path = r.Header, r.URL.Path
		up := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		out, err := net.Dial("tcp", f.listener.Addr().String())
		if err != nil {
			return
		}
		defer out.Close()
		go func() {
			r := bufio.NewReader(out)
			for {
				p, err := readPacket(r)
				if err != nil || ws.WriteMessage(websocket.BinaryMessage, p.bytes()) != nil {
					_ = ws.Close()
					return
				}
			}
		}()
		for {
			_, p, err := ws.ReadMessage()
			if err != nil {
				return
			}
			if _, err := out.Write(p); err != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	s := open(t, "url: ws"+strings.TrimPrefix(srv.URL, "http"))
	b := numbered(1, 200)
	b.Events[7].Payload = []byte(strings.Repeat("x", 300_000))
	if err := sendWithin(s, patience, b); err != nil {
		t.Fatal(err)
	}
	if path != "/mqtt" || got.Get("Sec-Websocket-Protocol") != "mqtt" {
		t.Errorf("path %q, headers %v", path, got)
	}
	want := count(1, 200)
	want[7] = string(b.Events[7].Payload)
	if !slices.Equal(want, payloads(f.taken())) {
		t.Error("the far side has other events")
	}
	f.cut()
	eventually(t, "the sink knows that its connection is lost", s.(interface{ Idle() bool }).Idle)
	if err := sendWithin(s, patience, numbered(201, 1)); err != nil {
		t.Error(err)
	}
}
