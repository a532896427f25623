package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	sim "holdfast/firmware-sim"
)

// errPartial says that the broker has not acknowledged everything.
var errPartial = errors.New("not everything was acknowledged")

func runCommand() *cobra.Command {
	var c choice
	var o sim.Options
	var passwordFile, authority, certificate, key string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Have the boards publish to a broker",
		Long: `Have the boards publish to a broker, at QoS 1, until the time given by --for is
over or the command is interrupted. A broker that is away is waited for.

All times are those of the boards: with --speed 10 their clocks go ten times as
fast as that of this machine, and --for 10m takes one minute.`,
		Example: `  firmware-sim run --broker tcp://127.0.0.1:1883
  firmware-sim run --scenario flash-crowd --speed 10 --for 10m
  firmware-sim run --broker tls://broker.example:8883 --ca ca.pem --username sim --password-file pw`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Scenario, o.Start, err = c.load(); err != nil {
				return err
			}
			if o.Speed <= 0 {
				return usagef("--speed must be above 0")
			}
			if o.TLS, err = tlsConfig(authority, certificate, key); err != nil {
				return err
			}
			if passwordFile != "" {
				b, err := os.ReadFile(passwordFile)
				if err != nil {
					return fmt.Errorf("read password: %w", err)
				}
				o.Password = strings.TrimRight(string(b), "\r\n")
			}
			o.Seed, o.Boards, o.For = c.seed, c.boards, c.length
			o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			stats, err := sim.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d boards: %d published, %d acknowledged, %d sent again; %d connections, %d broken, %d refused; %d readings dropped, %d unsent\n",
				stats.Boards, stats.Published, stats.Acknowledged, stats.Resent, stats.Connects, stats.Breaks, stats.Refusals, stats.Dropped, stats.Unsent)
			if n := stats.Unacknowledged() + stats.Unsent; n > 0 {
				return fmt.Errorf("%w: %d messages", errPartial, n)
			}
			return nil
		},
	}
	c.register(cmd, 0)
	f := cmd.Flags()
	f.StringVar(&o.Broker, "broker", "tcp://127.0.0.1:1883", "tcp://HOST:PORT or tls://HOST:PORT")
	f.Float64Var(&o.Speed, "speed", 1, "how many times as fast as real time")
	f.DurationVar(&o.Drain, "drain", 0, "how long to wait at the end for acknowledgements (default 5s)")
	f.IntVar(&o.Window, "window", 0, "messages that a board may have unacknowledged (default 16)")
	f.StringVar(&o.Username, "username", "", "user to log in as")
	f.StringVar(&passwordFile, "password-file", "", "file with the password of that user")
	f.StringVar(&authority, "ca", "", "PEM file of the authorities to trust instead of the system's")
	f.StringVar(&certificate, "cert", "", "PEM file of the client certificate")
	f.StringVar(&key, "key", "", "PEM file of its key")
	cmd.MarkFlagsRequiredTogether("cert", "key")
	return cmd
}

// tlsConfig reads the files that were given.
func tlsConfig(authority, certificate, key string) (*tls.Config, error) {
	c := &tls.Config{}
	if authority != "" {
		b, err := os.ReadFile(authority)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("read authorities: %s: no PEM certificate in it", authority)
		}
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
