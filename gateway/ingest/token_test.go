package ingest

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"holdfast/gateway/config"
)

func TestOnlyTokensMaySend(t *testing.T) {
	m := &memory{}
	s := start(t, m, Options{Tokens: map[string]config.Secret{"plc-1": config.NewSecret("alpha"), "plc-2": config.NewSecret("beta")}})
	for header, client := range map[string]string{
		"": "", "Bearer": "", "Bearer ": "", "Bearer alph": "", "Bearer alphaa": "", "Basic alpha": "", "alpha": "",
		"Bearer alpha": "plc-1", "bearer  beta": "plc-2",
	} {
		m.events = nil
		a := send(t, s, request{path: "/a", header: map[string]string{"Authorization": header}})
		switch {
		case client == "" && (a.Status != 401 || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") || len(m.taken()) != 0):
			t.Errorf("%q: %+v, took %v", header, a, m.taken())
		case client != "" && (a.Status != 200 || m.taken()[0].Client != client):
			t.Errorf("%q: %+v, took %v", header, a, m.taken())
		}
	}
	for name, secrets := range map[string][]string{"empty": {""}, "with a space": {"a b"}, "not ASCII": {"ä"}, "the same": {"x", "x"}} {
		all := map[string]config.Secret{}
		for i, text := range secrets {
			all[fmt.Sprint(i)] = config.NewSecret(text)
		}
		if _, err := New(Options{Emit: m.take, Tokens: all}); err == nil || strings.Contains(err.Error(), "a b") {
			t.Errorf("tokens %s: got %v", name, err)
		}
	}
}

func TestTokensAreReplacedWithoutARestart(t *testing.T) {
	m := &memory{}
	s := start(t, m, Options{Tokens: map[string]config.Secret{"old": config.NewSecret("alpha")}})
	as := func(token string) int {
		return send(t, s, request{path: "/a", header: map[string]string{"Authorization": "Bearer " + token}}).Status
	}
	if err := s.SetTokens(map[string]config.Secret{"new": config.NewSecret("beta")}); err != nil {
		t.Fatal(err)
	}
	if a, b := as("alpha"), as("beta"); a != 401 || b != 200 {
		t.Errorf("the token that is gone gets %d, the new one %d", a, b)
	}
	for what, wrong := range map[string]map[string]config.Secret{"none": nil, "an empty one": {"x": config.NewSecret("")}} {
		if err := s.SetTokens(wrong); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if got := as("beta"); got != 200 {
		t.Errorf("after a mistake the token gets %d", got)
	}
}

func TestWithoutTokensOnlyProgramsOfThisMachineMaySend(t *testing.T) {
	s, err := New(Options{Emit: (&memory{}).take})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(l); err == nil || !strings.Contains(err.Error(), "needs tokens") {
		t.Errorf("served on %s: %v", l.Addr(), err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener is still open")
	}

	m := &memory{}
	s = start(t, m, Options{})
	for name, test := range map[string]struct {
		header map[string]string
		status int
	}{
		"a program":               {nil, 200},
		"by the name localhost":   {map[string]string{"Host": "localhost:8481"}, 200},
		"IPv6":                    {map[string]string{"Host": "[::1]:8481"}, 200},
		"a page of another site":  {map[string]string{"Origin": "https://evil.example", "Content-Type": "text/plain"}, 403},
		"the same, newer browser": {map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"a name that rebinds":     {map[string]string{"Host": "evil.example:8481", "Origin": "http://evil.example:8481"}, 403},
		"a sandboxed page":        {map[string]string{"Origin": "null"}, 403},
	} {
		m.events = nil
		if a := send(t, s, request{path: "/a", header: test.header}); a.Status != test.status || len(m.taken()) != (403-test.status)/203 {
			t.Errorf("%s: %+v, took %v", name, a, m.taken())
		}
	}
}
