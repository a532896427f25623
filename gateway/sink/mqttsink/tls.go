package mqttsink

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"holdfast/gateway/config"
)

type tlsSettings struct {
	CA         config.Path `config:"ca"`
	Cert       config.Path `config:"cert"`
	Key        config.Path `config:"key"`
	ServerName string      `config:"server_name"`
	ALPN       []string    `config:"alpn"`
}

func (t *tlsSettings) check(s *config.Section, plain bool, errs *config.Errors) {
	switch {
	case !s.Has("tls"):
	case (t.Cert == "") != (t.Key == ""):
		errs.Add(s.Errorf("tls", "tls.cert and tls.key belong together; set both or none"))
	case plain:
		errs.Add(s.Errorf("tls", "tls has no effect on this URL; make it ssl:// or wss://, or remove tls"))
	}
	for i, name := range t.ALPN {
		if name == "" || len(name) > 255 {
			errs.Add(s.Errorf(fmt.Sprintf("tls.alpn.%d", i), "the name of a protocol has 1 to 255 bytes"))
		}
	}
}

// config reads the files, so that renewed certificates need no restart.
func (t *tlsSettings) config(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, NextProtos: t.ALPN}
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	if t.Cert != "" {
		cert, err := tls.LoadX509KeyPair(string(t.Cert), string(t.Key))
		if err != nil {
			return nil, fmt.Errorf("read tls.cert and tls.key: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	if t.CA != "" {
		pem, err := os.ReadFile(string(t.CA))
		if err != nil {
			return nil, fmt.Errorf("read tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read tls.ca: %s has no certificate in PEM", t.CA)
		}
	}
	return c, nil
}
