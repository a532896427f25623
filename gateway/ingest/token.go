package ingest

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	"holdfast/gateway/config"
)

// tokens are those who may send, in the order of their names.
type tokens []token

type token struct {
	name string
	sum  [sha256.Size]byte // so that comparing says nothing about the length
}

func newTokens(secrets map[string]config.Secret) (all tokens, err error) {
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if err := CheckToken(secrets[name]); err != nil {
			return nil, fmt.Errorf("token %s: %w", name, err)
		}
		t := token{name, sha256.Sum256([]byte(secrets[name].Reveal()))}
		for _, other := range all {
			if other.sum == t.sum {
				return nil, fmt.Errorf("token %s: it is the same as that of %s; give each its own", name, other.name)
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// CheckToken reports what makes s unusable as a bearer token: it travels in a
// header.
func CheckToken(s config.Secret) error {
	switch text := s.Reveal(); {
	case text == "":
		return errors.New("it is empty")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("it may only have letters, digits and signs of ASCII, and no spaces")
	}
	return nil
}

// sender returns who sent the request: the name of the token, or without
// tokens the host. The error is a problem.
func (s *Server) sender(r *http.Request) (string, error) {
	all := *s.tokens.Load()
	if len(all) == 0 {
		return s.local(r)
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if text = strings.TrimSpace(text); text == "" || !strings.EqualFold(scheme, "Bearer") {
		return "", problemf(http.StatusUnauthorized, "send a token, as Authorization: Bearer TOKEN")
	}
	sum, found := sha256.Sum256([]byte(text)), -1
	for i := range all {
		// Each is compared, so that the time says nothing about which it is.
		if subtle.ConstantTimeCompare(sum[:], all[i].sum[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return "", problemf(http.StatusUnauthorized, "the token is not known")
	}
	return all[found].name, nil
}

// local lets programs of this machine send, but not web pages in a browser on
// this machine: neither across origins, nor as a host whose name its owner
// points to 127.0.0.1.
func (s *Server) local(r *http.Request) (string, error) {
	if err := s.origins.Check(r); err != nil || !loopback(r.Host) {
		return "", problemf(http.StatusForbidden,
			"without tokens only programs on this machine may send, to localhost or a loopback address; configure tokens for others")
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return host, nil
}
