// Package pemfile reads the certificates and keys that a configuration names,
// for connections, and checks them before anybody connects. The files are PEM.
package pemfile

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"holdfast/gateway/config"
)

// Authorities reads the certificates of those whose signature is trusted.
func Authorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, noCertificate(path)
	}
	return pool, nil
}

// Pair reads a certificate, with what lies between it and its authority, and
// its key.
func Pair(cert, key string) (tls.Certificate, error) { return tls.LoadX509KeyPair(cert, key) }

// File is one that a configuration names.
type File struct {
	Key  string // where in the section, as for [config.Section.Errorf]
	Path string // empty if the configuration names none
}

// CheckAuthorities returns what keeps [Authorities] from reading a file, at the
// place where s names it.
func CheckAuthorities(s *config.Section, f File) error {
	if f.Path == "" {
		return nil
	}
	text, err := s.ReadFile(f.Key, f.Path)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return s.Errorf(f.Key, "%v", noCertificate(f.Path))
	}
	return nil
}

// CheckPair returns what keeps [Pair] from reading the two files, each mistake
// at the place where s names the file that has it. Of files of which only one
// is named, it looks at that.
func CheckPair(s *config.Section, cert, key File) error {
	var errs config.Errors
	read := func(f File, check func(path string, text []byte) error) (text []byte) {
		if f.Path == "" {
			return nil
		}
		text, err := s.ReadFile(f.Key, f.Path)
		if err == nil {
			if wrong := check(f.Path, text); wrong != nil {
				err = s.Errorf(f.Key, "%v", wrong)
			}
		}
		errs.Add(err)
		return text
	}
	public, private := read(cert, checkCertificate), read(key, checkKey)
	if len(errs) == 0 && cert.Path != "" && key.Path != "" {
		if _, err := tls.X509KeyPair(public, private); err != nil {
			errs.Add(s.Errorf(key.Key, "the key in %s does not belong to the certificate in %s (%s)",
				key.Path, cert.Path, strings.TrimPrefix(err.Error(), "tls: ")))
		}
	}
	return errs.Err()
}

func noCertificate(path string) error { return fmt.Errorf("%s has no certificate in PEM form", path) }

// checkCertificate looks at the first certificate of a file, the gateway's own.
func checkCertificate(path string, text []byte) error {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("the certificate in %s cannot be read: %w", path, err)
		}
		return nil
	}
	return noCertificate(path)
}

// checkKey looks for the first key of a file, as package tls does.
func checkKey(path string, text []byte) error {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return fmt.Errorf("the key in %s is encrypted, and nobody is there to enter its passphrase; "+
				"write it without one: openssl pkey -in FILE -out NEW", path)
		case block.Type != "PRIVATE KEY" && !strings.HasSuffix(block.Type, " PRIVATE KEY"):
			continue
		}
		if err := parseKey(block.Bytes); err != nil {
			return fmt.Errorf("the key in %s cannot be read: %w", path, err)
		}
		return nil
	}
	return fmt.Errorf("%s has no key in PEM form", path)
}

func parseKey(der []byte) error {
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return nil
	}
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return nil
	}
	if _, err := x509.ParseECPrivateKey(der); err == nil {
		return nil
	}
	return errors.New("it is damaged, or of a kind that TLS does not know")
}
