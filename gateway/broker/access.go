package broker

import (
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"unicode"
	"unicode/utf8"

	"holdfast/gateway/broker/packet"
)

// Access says who may connect and what clients may do. It does not change: to
// change it, give the broker another one with SetAccess. The zero Access lets
// in clients on loopback addresses, who may do everything.
type Access struct {
	// Users may connect with their passwords. With nil nobody has a name that
	// counts, and clients are let in on loopback addresses, with a certificate,
	// or if AllowAnonymous is set.
	Users *Users
	// AllowAnonymous lets in clients that give no user name.
	AllowAnonymous bool
	// ACL says who may publish and subscribe to what; nil: everybody to
	// everything.
	ACL *ACL
}

// identity is who is at the other end of a connection, and by what right.
type identity struct {
	user  string // empty if nobody has vouched for a name
	hash  string // that the password had in the users file, if there was one
	cert  bool   // the name is that of a certificate
	named bool   // the client gave a user name
	local bool   // it is on a loopback address, or has a certificate
}

var errNoName = errors.New("the client certificate has no name that can be a user")

// identify finds out who a client is by its certificate, or else by what its
// CONNECT says. ok is false if it may not connect. It is slow for a password
// that has not been seen before.
func (a *Access) identify(c *conn, named bool, user string, password []byte) (who identity, ok bool, err error) {
	who.named = named
	if addr, tcp := c.LocalAddr().(*net.TCPAddr); tcp {
		who.local = addr.IP.IsLoopback()
	}
	if c.cert != nil {
		who.local = true
		if from := c.from.TLS.UserFrom; from != UserFromNone {
			if who.user = certName(c.cert, from); who.user == "" {
				return who, false, errNoName
			}
			who.cert = true
			return who, true, nil
		}
	}
	if a.open(who) {
		return who, true, nil
	}
	if a.Users == nil || !named || !a.Users.Verify(user, password) {
		return who, false, nil
	}
	who.user, who.hash = user, a.Users.hashes[user]
	return who, true, nil
}

// open reports whether a client needs no password.
func (a *Access) open(who identity) bool {
	return a.AllowAnonymous && !who.named || a.Users == nil && (a.AllowAnonymous || who.local)
}

// admits reports whether a client that was let in before may stay.
func (a *Access) admits(who identity) bool {
	switch {
	case who.cert:
		return true
	case who.hash != "":
		return a.Users != nil && a.Users.hashes[who.user] == who.hash
	}
	return a.open(who)
}

// knows reports whether there still is such a user. About the users of
// certificates nothing is known here.
func (a *Access) knows(who identity) bool {
	if who.hash == "" {
		return true
	}
	if a.Users == nil {
		return false
	}
	_, ok := a.Users.hashes[who.user]
	return ok
}

// certName returns the name in a certificate that is to be the user's, empty
// if there is none that can be.
func certName(cert *x509.Certificate, from string) (name string) {
	switch {
	case from != UserFromSAN:
		name = cert.Subject.CommonName
	case len(cert.DNSNames) > 0:
		name = cert.DNSNames[0]
	case len(cert.EmailAddresses) > 0:
		name = cert.EmailAddresses[0]
	case len(cert.URIs) > 0:
		name = cert.URIs[0].String()
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || len(name) > 1024 {
		return ""
	}
	return name
}

// SetAccess replaces what Options said about access. When it returns,
// everything that clients send and are sent from then on is judged by the new
// rules, whatever was granted before. Clients that may not connect any more,
// because their user is gone or has another password, are disconnected;
// sessions of users that are gone end, without their wills. a.Users must not be
// in use by anybody else.
func (b *Broker) SetAccess(a Access) {
	b.mu.Lock()
	if old := b.access.Load(); a.Users != nil && old.Users != nil && a.Users != old.Users {
		a.Users.remember(old.Users)
	}
	b.access.Store(&a)
	var leave []*conn
	var over []*session
	for c := range b.conns {
		if c.session != nil && !a.admits(c.who) {
			leave = append(leave, c)
		}
	}
	for _, s := range b.sessions {
		s.mu.Lock()
		if s.banned = !a.knows(s.who); s.banned {
			s.cancelWill()
			over = append(over, s)
		}
		s.mu.Unlock()
	}
	b.mu.Unlock()
	for _, c := range leave {
		c.disconnect(packet.NotAuthorized)
	}
	// Whoever routes now finishes one event by the old rules; then all is new.
	b.route.Lock()
	b.route.generation.Add(1)
	b.route.Unlock()
	for _, s := range over {
		b.purge(s)
	}
}

// purge ends the session of a user that is gone, unless it has a connection:
// when that ends, it does the same.
func (b *Broker) purge(s *session) {
	s.mu.Lock()
	over := s.banned && s.conn == nil
	s.mu.Unlock()
	if over {
		b.endSession(s)
	}
}
