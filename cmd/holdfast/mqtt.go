package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"os"

	"github.com/spf13/cobra"
)

// defaultBroker is where a gateway on this machine listens.
const defaultBroker = "127.0.0.1:1883"

// mqttFlags say which broker `pub` and `sub` talk to, and as whom.
type mqttFlags struct {
	config   configFlag
	address  string
	user     string
	password string
	tls      tlsFlags
	qos      uint8
}

func (f *mqttFlags) register(cmd *cobra.Command) {
	f.config.register(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&f.address, "address", "a", "", "broker, as `HOST:PORT` (default: that of the configuration given, else "+defaultBroker+")")
	fl.StringVarP(&f.user, "user", "u", "", "`NAME` to log in as")
	fl.StringVarP(&f.password, "password", "P", "", "`PASSWORD` of that user (default $HOLDFAST_PASSWORD, which other users cannot see)")
	f.tls.register(cmd)
	fl.Uint8VarP(&f.qos, "qos", "q", 1, "quality of service: 0, 1 or 2")
}

// check finds the mistakes that parsing the flags did not.
func (f *mqttFlags) check() error {
	if f.qos > 2 {
		return usagef("--qos is 0, 1 or 2, not %d", f.qos)
	}
	if err := f.tls.check(); err != nil {
		return err
	}
	if f.address != "" {
		if _, _, err := net.SplitHostPort(f.address); err != nil {
			return usagef("--address %s: give HOST:PORT", quote(f.address))
		}
	}
	return nil
}

// broker returns the address to connect to.
func (f *mqttFlags) broker() (string, error) {
	if f.address != "" {
		return f.address, nil
	}
	if !f.config.given() {
		return defaultBroker, nil
	}
	cfg, err := f.config.load()
	if err != nil {
		return "", err
	}
	for _, l := range cfg.MQTT.Listen {
		if (l.TLS != nil) == f.tls.on() && l.WebSocket == nil {
			return dialable(l.Address), nil
		}
	}
	if f.tls.on() {
		return "", usagef("the configuration has no mqtt.listen with tls and without websocket; give --address HOST:PORT")
	}
	return "", usagef("the configuration has no mqtt.listen without tls and websocket; give --tls or --ca, or --address HOST:PORT")
}

// dialable turns an address to listen on into one to connect to: what listens
// on every interface is reached through the loopback.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func (f *mqttFlags) secret() string {
	if f.password != "" {
		return f.password
	}
	return os.Getenv("HOLDFAST_PASSWORD")
}

// cause drops what net puts before the reason: the address is already told.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		var sys *os.SyscallError
		if errors.As(op.Err, &sys) {
			return sys.Err
		}
		return op.Err
	}
	return err
}

func randomHex() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
