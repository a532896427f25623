package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast/gateway/broker"
)

// certificate writes a certificate that signs itself, and its key.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListenersAreAddressesOrHaveSettings(t *testing.T) {
	dir := writeConfig(t, map[string]string{"c.yaml": `
mqtt:
  users: users
  listen:
    - 127.0.0.1:1883
    - "off"
    - {address: 0.0.0.0:8883, tls: {cert: cert.pem, key: key.pem, client_ca: cert.pem, client_cert: optional, user_from: san}}
    - {address: 0.0.0.0:8884, tls: {cert: cert.pem, key: key.pem, client_ca: cert.pem}}
    - {address: 127.0.0.1:8080, websocket: }
    - {address: 0.0.0.0:8443, tls: {cert: cert.pem, key: key.pem}, websocket: {path: /ws, origins: ['https://panel.example']}}
    - {address: 127.0.0.1:1884, proxy_protocol: v2}
`})
	certificate(t, dir)
	c, err := Load([]string{filepath.Join(dir, "c.yaml")}, fakeParts())
	if err != nil {
		t.Fatal(err)
	}
	tls := func(with broker.TLS) *broker.TLS {
		with.Cert, with.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		return &with
	}
	ca := filepath.Join(dir, "cert.pem")
	want := []broker.Listener{
		{Address: "127.0.0.1:1883"},
		{Address: "0.0.0.0:8883", TLS: tls(broker.TLS{ClientCA: ca, Optional: true, UserFrom: "san"})},
		{Address: "0.0.0.0:8884", TLS: tls(broker.TLS{ClientCA: ca, UserFrom: "cn"})},
		{Address: "127.0.0.1:8080", WebSocket: &broker.WebSocket{Path: "/mqtt"}},
		{Address: "0.0.0.0:8443", TLS: tls(broker.TLS{}), WebSocket: &broker.WebSocket{Path: "/ws", Origins: []string{"https://panel.example"}}},
		{Address: "127.0.0.1:1884", Proxy: true},
	}
	if diff := cmp.Diff(want, c.MQTT.Listen); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

func TestWhatOthersCanReachAndReadIsWarnedOf(t *testing.T) {
	c, err := loadText(t, "mqtt: {users: u, listen: [0.0.0.0:1883, '127.0.0.1:1', {address: '[::]:80', websocket: {}}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 2 || !strings.Contains(c.Warnings.Error(), "passwords too") {
		t.Errorf("got %v, want warnings about two of three", c.Warnings)
	}
	c, err = loadText(t, "mqtt: {allow_anonymous: true, listen: 0.0.0.0:1883}\n")
	if err != nil || len(c.Warnings) > 0 {
		t.Errorf("got %v, %v; without users there is no password to read", c, err)
	}
}

func TestACertificateMayStandForAPassword(t *testing.T) {
	text := "mqtt: {listen: [{address: 0.0.0.0:8883, tls: {cert: cert.pem, key: key.pem, client_ca: cert.pem}}]}\n"
	dir := writeConfig(t, map[string]string{"c.yaml": text, "d.yaml": strings.Replace(text, ", client_ca: cert.pem", "", 1)})
	certificate(t, dir)
	if _, err := Load([]string{filepath.Join(dir, "c.yaml")}, fakeParts()); err != nil {
		t.Error(err)
	}
	if _, err := Load([]string{filepath.Join(dir, "d.yaml")}, fakeParts()); err == nil || !strings.Contains(err.Error(), "other machines can reach") {
		t.Errorf("got %v", err)
	}
}

func TestAnACLIsReadAsItIsWritten(t *testing.T) {
	file := filepath.Join(writeConfig(t, map[string]string{"c.yaml": `
mqtt:
  acl:
    - {users: ['*'], allow: publish, topics: 'plant/%u/#'}
    - {users: [panel, ''], allow: [subscribe], topics: ['#']}
    - {users: ['*'], deny: [publish, subscribe], topics: [plant/secret/#, x]}
`}), "c.yaml")
	at := func(line int) string { return fmt.Sprintf("%s:%d:7", file, line) }
	c, err := Load([]string{file}, fakeParts())
	if err != nil {
		t.Fatal(err)
	}
	want, err := broker.NewACL([]broker.Rule{
		{Users: []string{"*"}, Publish: true, Topics: []string{"plant/%u/#"}, At: at(4)},
		{Users: []string{"panel", ""}, Subscribe: true, Topics: []string{"#"}, At: at(5)},
		{Users: []string{"*"}, Deny: true, Publish: true, Subscribe: true, Topics: []string{"plant/secret/#", "x"}, At: at(6)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, c.MQTT.ACL, cmp.AllowUnexported(broker.ACL{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, empty := range []string{"", "[]"} {
		if _, err := loadText(t, "mqtt:\n  acl: "+empty+"\n"); err == nil || !strings.Contains(err.Error(), "nobody may do anything") {
			t.Errorf("acl: %s: got %v; it must not mean that everything is allowed", empty, err)
		}
	}
}

func TestTheExamplesInTheReferenceAreRight(t *testing.T) {
	reference, err := os.ReadFile("../configs/reference.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(reference), "\nmqtt:\n")
	section, _, _ = strings.Cut(section, "\nhttp:\n")
	text := "mqtt:\n  listen:\n"
	for line := range strings.Lines(section) {
		if example, ok := strings.CutPrefix(line, "  #   "); ok {
			text += "  " + example
		}
	}
	dir := writeConfig(t, map[string]string{"c.yaml": text})
	certificate(t, dir)
	for from, to := range map[string]string{"cert.pem": "gateway.pem", "key.pem": "gateway.key"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	certificate(t, dir)
	if err := os.Rename(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "devices.pem")); err != nil {
		t.Fatal(err)
	}
	c, err := Load([]string{filepath.Join(dir, "c.yaml")}, fakeParts())
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	if l := c.MQTT.Listen; len(l) != 1 || l[0].TLS.ClientCA == "" || len(l[0].WebSocket.Origins) != 1 || c.MQTT.ACL == nil {
		t.Errorf("got %+v", c.MQTT)
	}
}

func TestReloadChangesWhoMayDoWhat(t *testing.T) {
	dir := t.TempDir()
	hashes := map[string]string{}
	for _, name := range []string{"pump", "valve"} {
		hash, err := broker.HashPassword([]byte(name))
		if err != nil {
			t.Fatal(err)
		}
		hashes[name] = hash
	}
	passwords := func(names ...string) {
		t.Helper()
		var text strings.Builder
		for _, name := range names {
			text.WriteString(name + ":" + hashes[name] + "\n")
		}
		if err := os.WriteFile(filepath.Join(dir, "users"), []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	passwords("pump", "valve")
	g, _ := run(t, dir, "", newMemory())
	reload := func(acl string) {
		t.Helper()
		text := "gateway: test\nstore: {path: store}\nhttp: {listen: off}\nmqtt: {listen: 127.0.0.1:0, users: users, acl: [" + acl + "]}\n"
		if err := os.WriteFile(filepath.Join(dir, "holdfast.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := g.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	reload("{users: [pump], allow: publish, topics: 'a/%u'}")
	lost := make(chan struct{}, 10)
	connect := func(user string) error {
		o := paho.NewClientOptions().AddBroker("tcp://" + g.broker.Addrs()[0].String()).SetClientID(user).
			SetUsername(user).SetPassword(user).SetAutoReconnect(false).
			SetConnectionLostHandler(func(paho.Client, error) { lost <- struct{}{} })
		c := paho.NewClient(o)
		t.Cleanup(func() { c.Disconnect(0) })
		token := c.Connect()
		token.WaitTimeout(longest)
		return token.Error()
	}
	for _, user := range []string{"pump", "valve"} {
		if err := connect(user); err != nil {
			t.Fatal(err)
		}
	}
	if err := connect("nobody"); err == nil {
		t.Error("somebody else was let in")
	}
	passwords("valve")
	if err := os.WriteFile(filepath.Join(dir, "holdfast.yaml"), []byte("mqtt: {users: missing}\ngateway: test\nstore: {path: store}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.Reload(t.Context()); err == nil {
		t.Error("a missing users file was taken")
	}
	select {
	case <-lost:
		t.Error("a reload that failed disconnected a client")
	default:
	}
	reload("{users: [valve], allow: publish, topics: 'a/%u'}")
	select {
	case <-lost:
	case <-time.After(longest):
		t.Error("a user that was removed is still connected")
	}
	until(t, "only the one is connected that may stay", func() bool { return g.broker.Stats().Clients == 1 })
}
