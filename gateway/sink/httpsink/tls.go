package httpsink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"

	"holdfast/gateway/config"
	"holdfast/gateway/pemfile"
)

type tlsSettings struct {
	CA         config.Path `config:"ca"`
	Cert       config.Path `config:"cert"`
	Key        config.Path `config:"key"`
	ServerName string      `config:"server_name"`
}

func (t *tlsSettings) check(s *config.Section, u *url.URL, errs *config.Errors) {
	switch {
	case !s.Has("tls"):
	case (t.Cert == "") != (t.Key == ""):
		errs.Add(s.Errorf("tls", "tls.cert and tls.key belong together; set both or none"))
	case u != nil && u.Scheme != "https":
		errs.Add(s.Errorf("tls", "tls has no effect on an http URL; make it https or remove tls"))
	}
}

// files checks what the settings of one destination name.
func files(s *config.Section) error {
	var set settings
	_ = s.Decode(&set) // New says what is wrong with them
	var errs config.Errors
	errs.Add(pemfile.CheckAuthorities(s, pemfile.File{Key: "tls.ca", Path: string(set.TLS.CA)}))
	errs.Add(pemfile.CheckPair(s, pemfile.File{Key: "tls.cert", Path: string(set.TLS.Cert)}, pemfile.File{Key: "tls.key", Path: string(set.TLS.Key)}))
	return errs.Err()
}

// config returns TLS settings whose files are read for every new connection,
// so that renewed certificates need no restart.
func (t tlsSettings) config(host string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.ServerName != "" {
		host = t.ServerName
	}
	if t.Cert != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := pemfile.Pair(string(t.Cert), string(t.Key))
			if err != nil {
				return nil, fmt.Errorf("read tls.cert and tls.key: %w", err)
			}
			return &cert, nil
		}
	}
	if t.CA != "" {
		// A pool in RootCAs would be read once only. The same verification is
		// done below with the file as it is now.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			roots, err := pemfile.Authorities(string(t.CA))
			if err != nil {
				return fmt.Errorf("read tls.ca: %w", err)
			}
			return verify(cs, roots, host)
		}
	}
	return c
}

// verify checks the far side's certificates as crypto/tls does by default.
func verify(cs tls.ConnectionState, roots *x509.CertPool, host string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the far side showed no certificate")
	}
	if cs.ServerName != "" { // empty for addresses
		host = cs.ServerName
	}
	between := x509.NewCertPool()
	for _, cert := range cs.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: host,
	})
	return err
}
