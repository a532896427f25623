package gateway

import (
	"slices"

	"holdfast/gateway/broker"
	"holdfast/gateway/config"
	"holdfast/gateway/ingest"
)

// IngestConfig are the settings of taking events over HTTP.
type IngestConfig struct {
	Listen    string                   // host:port; empty means none
	Tokens    map[string]config.Secret // by name; none means that only this machine may send
	MaxBody   int                      // bytes of a request, uncompressed
	MaxEvents int                      // events of a request
	MaxConns  int
	TLS       *broker.TLS // nil: not encrypted
}

// fixed are the settings that take effect at the start only.
func (c IngestConfig) fixed() IngestConfig {
	c.Tokens = nil
	return c
}

type ingestSettings struct {
	Listen    string       `config:"listen"`
	Tokens    config.Named `config:"tokens"`
	TLS       *tlsSettings `config:"tls"`
	MaxBody   config.Size  `config:"max_body,min=1KiB,max=8MiB"`
	MaxEvents int          `config:"max_events,min=1,max=10000"`
	MaxConns  int          `config:"max_connections,min=1"`
}

// ingest checks the section; without one nothing is taken over HTTP.
func (l *loader) ingest(s *config.Section) {
	if s == nil {
		return
	}
	set := ingestSettings{Listen: "127.0.0.1:8481", MaxBody: ingest.MostBody, MaxEvents: ingest.MostEvents, MaxConns: 256}
	l.errs.Add(s.Decode(&set))
	l.c.Ingest = IngestConfig{
		Listen: l.address("ingest.listen", set.Listen), Tokens: l.tokens(set.Tokens),
		MaxBody: int(set.MaxBody), MaxEvents: set.MaxEvents, MaxConns: set.MaxConns,
	}
	if t := s.Child("tls"); t != nil {
		l.c.Ingest.TLS = l.tls(t, set.TLS)
		for _, key := range []string{"client_ca", "client_cert", "user_from"} {
			if t.Has(key) {
				l.errs.Add(t.Errorf(key, "ingest knows senders by their token; %s is for mqtt.listen", key))
			}
		}
	}
	if addr := l.c.Ingest.Listen; addr != "" && !loopback(addr) && len(set.Tokens) == 0 {
		l.errs.Add(s.Errorf("listen", "other machines can reach %s: name those who may send, with tokens: {plc-1: \"${file:PATH}\"}", addr))
	}
}

// tokens are those of the section, each with a value of its own.
func (l *loader) tokens(sections config.Named) map[string]config.Secret {
	if len(sections) == 0 {
		return nil
	}
	all := map[string]config.Secret{}
	var values []string
	for _, s := range sections {
		var secret config.Secret
		err := s.Decode(&secret)
		switch {
		case err != nil:
		case !validName(s.Name()):
			err = s.Errorf("", "%q cannot name a token; %s", s.Name(), nameRule)
		case slices.Contains(values, secret.Reveal()):
			err = s.Errorf("", "the token %s is the same as another; give each its own, so that one can be withdrawn", s.Name())
		default:
			if wrong := ingest.CheckToken(secret); wrong != nil {
				err = s.Errorf("", "the token %s cannot be used: %v", s.Name(), wrong)
			}
		}
		l.errs.Add(err)
		values = append(values, secret.Reveal())
		all[s.Name()] = secret
	}
	return all
}
