package broker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// Where in a client certificate the name of the user is.
const (
	UserFromCN   = "cn"   // the common name of the subject
	UserFromSAN  = "san"  // the first DNS name, or else e-mail address, or else URI
	UserFromNone = "none" // nowhere: the certificate only opens the door
)

// TLS are the settings of an encrypted listener. The files are PEM, and are
// read again when they change.
type TLS struct {
	Cert, Key string // paths of the certificate, with its chain, and the key
	// ClientCA is the path of the authorities whose client certificates are
	// taken; empty: clients are not asked for one.
	ClientCA string
	// Optional lets in clients without a certificate; what they need then is
	// a password, as elsewhere.
	Optional bool
	// UserFrom says where the user's name is in a client certificate; "" means
	// UserFromCN. A client with a name from there needs no password, and what
	// it says about its user is ignored.
	UserFrom string
}

// Check reports what is wrong with the files.
func (t TLS) Check() error {
	_, err := t.load()
	return err
}

func (t TLS) files() []string {
	files := []string{t.Cert, t.Key}
	if t.ClientCA != "" {
		files = append(files, t.ClientCA)
	}
	return files
}

// load reads the files.
func (t TLS) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %w", t.Cert, t.Key, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if t.ClientCA == "" {
		return config, nil
	}
	text, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("load client_ca: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("load client_ca: %s has no certificate in PEM form", t.ClientCA)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	if t.Optional {
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return config, nil
}

// Encrypt returns a listener whose connections are those of l behind TLS.
func (t TLS) Encrypt(l net.Listener, log *slog.Logger) (net.Listener, error) {
	k, err := newKeys(t, log)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.current(), nil },
	}), nil
}

// keysAge is how long the files are taken to be as they were.
const keysAge = time.Second

// keys are the certificates of a listener, kept up to date with their files.
type keys struct {
	set TLS
	log *slog.Logger

	mu     sync.Mutex
	looked time.Time
	seen   []os.FileInfo // of the files when they were last read; nil for one that was not there
	config *tls.Config   // of the last files that were good
}

func newKeys(set TLS, log *slog.Logger) (*keys, error) {
	if !slices.Contains([]string{"", UserFromCN, UserFromSAN, UserFromNone}, set.UserFrom) {
		return nil, fmt.Errorf("the user cannot come from %q of a certificate; there are cn, san and none", set.UserFrom)
	}
	k := &keys{set: set, log: log, looked: time.Now(), seen: stat(set.files())}
	var err error
	k.config, err = set.load()
	return k, err
}

// current returns the settings for the next handshake. Each version of the
// files has its own, and with that its own keys for session tickets: nobody
// resumes a session past certificates that were replaced.
func (k *keys) current() *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if now.Sub(k.looked) < keysAge {
		return k.config
	}
	k.looked = now
	seen := stat(k.set.files()) // first: what changes while it is read is seen next time
	if slices.EqualFunc(seen, k.seen, sameFile) {
		return k.config
	}
	k.seen = seen
	config, err := k.set.load()
	if err != nil {
		k.log.Warn("a certificate cannot be replaced; the old one stays in use", "err", err)
		return k.config
	}
	k.log.Info("certificate replaced", "file", k.set.Cert)
	k.config = config
	return config
}

func stat(files []string) []os.FileInfo {
	all := make([]os.FileInfo, len(files))
	for i, f := range files {
		if info, err := os.Stat(f); err == nil {
			all[i] = info
		}
	}
	return all
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}
