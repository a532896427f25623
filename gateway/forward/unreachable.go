package forward

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Unreachable adds to the error of a connection that was not made, or broke,
// what the operator can do about it. The names of settings in it are those that
// all destinations over TLS have. Its text is the same each time the same thing
// happens, so that it is logged once.
func Unreachable(err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; set tls.ca to the authority's certificate", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w; check the far side's certificate and the clock of this device", err)
	case errors.As(err, &host):
		return fmt.Errorf("%w; check url, or set tls.server_name", err)
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return fmt.Errorf("the far side refused the TLS connection: %w; check tls.cert and tls.key", op.Err)
	case errors.As(err, &dns):
		return fmt.Errorf("%s cannot be resolved: %s", dns.Name, dns.Err)
	case errors.As(err, &op) && op.Addr != nil:
		for inner := op; errors.As(inner.Err, &inner); {
			op = inner
		}
		// Not op itself: its text has the local port, which differs every time.
		return fmt.Errorf("%s %v: %w", op.Op, op.Addr, op.Err)
	}
	return err
}

// IsHangUp reports whether the far side ended a connection, in order or not.
func IsHangUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
