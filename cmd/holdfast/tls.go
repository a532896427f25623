package main

import (
	"crypto/tls"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"holdfast/gateway/pemfile"
)

// tlsFlags say how `pub` and `sub` trust a broker, and how it knows them.
type tlsFlags struct {
	use       bool
	ca        string
	cert, key string
}

func (f *tlsFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&f.use, "tls", false, "connect over TLS, trusting the authorities of this machine")
	fl.StringVar(&f.ca, "ca", "", "connect over TLS, trusting the authorities in this PEM `FILE`")
	fl.StringVar(&f.cert, "cert", "", "client certificate, a PEM `FILE`, for a broker that wants one")
	fl.StringVar(&f.key, "key", "", "its key, a PEM `FILE`")
}

func (f *tlsFlags) on() bool { return f.use || f.ca != "" || f.cert != "" }

func (f *tlsFlags) check() error {
	if (f.cert == "") != (f.key == "") {
		return usagef("--cert and --key belong together")
	}
	return nil
}

// config returns the settings for a connection to address, nil for one
// without TLS.
func (f *tlsFlags) config(address string) (*tls.Config, error) {
	if !f.on() {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		if c.RootCAs, err = pemfile.Authorities(f.ca); err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
	}
	if f.cert != "" {
		pair, err := pemfile.Pair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--cert %s --key %s: %w", f.cert, f.key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
