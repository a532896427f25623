package mqttsink

import (
	"bytes"
	"crypto/tls"
	"fmt"

	"holdfast/gateway/config"
	"holdfast/gateway/pemfile"
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

// files checks what the settings of one destination name.
func files(s *config.Section) error {
	var set settings
	_ = s.Decode(&set) // New says what is wrong with them
	var errs config.Errors
	errs.Add(pemfile.CheckAuthorities(s, pemfile.File{Key: "tls.ca", Path: string(set.TLS.CA)}))
	errs.Add(pemfile.CheckPair(s, pemfile.File{Key: "tls.cert", Path: string(set.TLS.Cert)}, pemfile.File{Key: "tls.key", Path: string(set.TLS.Key)}))
	if path := string(set.PasswordFile); path != "" {
		text, err := s.ReadFile("password_file", path)
		if err == nil && len(bytes.TrimRight(text, "\r\n")) == 0 {
			err = s.Errorf("password_file", "there is no password in %s", path)
		}
		errs.Add(err)
	}
	return errs.Err()
}

// config reads the files, so that renewed certificates need no restart.
func (t *tlsSettings) config(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, NextProtos: t.ALPN}
	if t.ServerName != "" {
		c.ServerName = t.ServerName
	}
	if t.Cert != "" {
		cert, err := pemfile.Pair(string(t.Cert), string(t.Key))
		if err != nil {
			return nil, fmt.Errorf("read tls.cert and tls.key: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	if t.CA != "" {
		var err error
		if c.RootCAs, err = pemfile.Authorities(string(t.CA)); err != nil {
			return nil, fmt.Errorf("read tls.ca: %w", err)
		}
	}
	return c, nil
}
