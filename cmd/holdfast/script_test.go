package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/gateway/ops"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast": main})
}

// The scripts run the real command. Beside the usual commands they have
//
//	exits CODE COMMAND ARG...    the command must end with this exit code
//	until COMMAND ARG...         run it again and again until it succeeds
//	ready                        wait for the gateway, set $MQTT and $HTTP to its addresses
//	authority CA CERT KEY        write an authority, and a certificate of it for 127.0.0.1
//	get PATH                     print what the gateway serves there over HTTP
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Deadline:            time.Now().Add(4 * time.Minute),
		Setup: func(e *testscript.Env) error {
			// Nothing of the machine that the tests run on.
			e.Setenv("XDG_RUNTIME_DIR", e.WorkDir+"/run")
			for _, name := range []string{"RUNTIME_DIRECTORY", "HOLDFAST_CONFIG", "HOLDFAST_LOG", "HOLDFAST_PASSWORD"} {
				e.Setenv(name, "")
			}
			// A command that is watched by the race detector sleeps for a second
			// before it ends, unless told otherwise.
			e.Setenv("GORACE", "atexit_sleep_ms=10")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"until": until,
			"ready": ready,
			"get":   get,

			"authority": authority,
		},
	})
}

func authority(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: authority CA CERT KEY")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "gateway"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), cert, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), cert, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: until COMMAND ARG...")
	}
	poll(ts, strings.Join(args, " "), func() error { return ts.Exec(args[0], args[1:]...) })
}

func ready(ts *testscript.TestScript, _ bool, _ []string) {
	client := ops.NewClient(ts.MkAbs("run/holdfast/" + ops.SocketName))
	poll(ts, "the gateway does not come up", func() error {
		st, err := client.Status(context.Background())
		if err != nil {
			return err
		}
		if len(st.MQTT.Listen) == 0 {
			return errors.New("it does not listen")
		}
		ts.Setenv("MQTT", st.MQTT.Listen[0])
		ts.Setenv("HTTP", st.HTTP)
		return nil
	})
}

// poll tries until there is no error; another process has no event to wait for.
func poll(ts *testscript.TestScript, what string, try func() error) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: still failing: %v", what, err)
		}
	}
}

func get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: get PATH")
	}
	resp, err := http.Get("http://" + ts.Getenv("HTTP") + args[0])
	ts.Check(err)
	defer resp.Body.Close()
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
	if ok := resp.StatusCode == http.StatusOK; ok == neg {
		ts.Fatalf("%s answers %s", args[0], resp.Status)
	}
}
