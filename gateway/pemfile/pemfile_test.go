package pemfile_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/gateway/config"
	"holdfast/gateway/pemfile"
)

// files are a certificate, its key in every form that TLS reads, and what people
// put in their place by mistake.
func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, blocks ...*pem.Block) {
		var text []byte
		for _, b := range blocks {
			text = append(text, pem.EncodeToMemory(b)...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sign := func(public, private any) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		return must(x509.CreateCertificate(rand.Reader, c, c, public, private))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sec1, pkcs8 := must(x509.MarshalECPrivateKey(key)), must(x509.MarshalPKCS8PrivateKey(key))
	write("cert.pem", &pem.Block{Type: "CERTIFICATE", Bytes: sign(&key.PublicKey, key)})
	write("rsa.pem", &pem.Block{Type: "CERTIFICATE", Bytes: sign(&old.PublicKey, old)})
	write("key.pem", &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	write("openssl.key", &pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8}}, &pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})
	write("rsa.key", &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(old)})
	write("other.key", &pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(other))})
	write("encrypted.key", &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}})
	write("encrypted-rsa.key", &pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte{1}, Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}})
	write("cut.key", &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8[:len(pkcs8)-7]})
	write("cut.pem", &pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 3}})
	write("empty")
	return dir
}

func TestWhatIsWrongWithAFileIsSaidWhereItIsNamed(t *testing.T) {
	dir := files(t)
	for _, test := range []struct{ ca, cert, key, want string }{
		{"cert.pem", "cert.pem", "key.pem", ""},
		{"", "cert.pem", "openssl.key", ""},
		{"", "rsa.pem", "rsa.key", ""},
		{"missing", "", "", "1:6: cannot read missing: no such file or directory"},
		{".", "", "", "1:6: cannot read .: is a directory"},
		{"empty", "", "", "1:6: empty has no certificate in PEM form"},
		{"key.pem", "", "", "1:6: key.pem has no certificate in PEM form"},
		{"cut.pem", "", "", "1:6: cut.pem has no certificate in PEM form"},
		{"", "missing", "missing", "2:8: cannot read missing: no such file or directory\n3:7: cannot read missing: no such file or directory"},
		{"", "missing", "", "2:8: cannot read missing: no such file or directory"}, // that the key is missing is said elsewhere
		{"", "key.pem", "cert.pem", "2:8: key.pem has no certificate in PEM form\n3:7: cert.pem has no key in PEM form"},
		{"", "cut.pem", "key.pem", "2:8: the certificate in cut.pem cannot be read: "},
		{"", "cert.pem", "cut.key", "3:7: the key in cut.key cannot be read: it is damaged"},
		{"", "cert.pem", "encrypted.key", "3:7: the key in encrypted.key is encrypted, and nobody is there to enter its passphrase; write it without one: openssl pkey"},
		{"", "cert.pem", "encrypted-rsa.key", "3:7: the key in encrypted-rsa.key is encrypted"},
		{"", "cert.pem", "other.key", "3:7: the key in other.key does not belong to the certificate in cert.pem (private key does not match public key)"},
		{"", "cert.pem", "rsa.key", "3:7: the key in rsa.key does not belong to the certificate in cert.pem (private key type does not match"},
	} {
		s, err := config.LoadBytes(filepath.Join(dir, "c.yaml"), []byte("{ca: "+quoted(test.ca)+",\n cert: "+quoted(test.cert)+",\n key: "+quoted(test.key)+"}"))
		if err != nil {
			t.Fatal(err)
		}
		file := func(key, name string) pemfile.File {
			if name == "" {
				return pemfile.File{Key: key}
			}
			return pemfile.File{Key: key, Path: s.Path(name)}
		}
		var errs config.Errors
		errs.Add(pemfile.CheckAuthorities(s, file("ca", test.ca)))
		errs.Add(pemfile.CheckPair(s, file("cert", test.cert), file("key", test.key)))
		var got []string
		for _, e := range errs {
			got = append(got, strings.ReplaceAll(strings.TrimPrefix(e.Error(), dir+"/c.yaml:"), dir+"/", ""))
		}
		lines := strings.Split(test.want, "\n")
		if test.want == "" {
			lines = nil
		}
		if len(got) != len(lines) {
			t.Errorf("%+v: got %q", test, got)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(strings.ReplaceAll(got[i], "cannot read "+dir+":", "cannot read .:"), lines[i]) {
				t.Errorf("%+v:\ngot  %s\nwant %s", test, got[i], lines[i])
			}
		}
		// What passes is what connections read, and nothing else does.
		_, caErr := pemfile.Authorities(s.Path(test.ca))
		_, pairErr := pemfile.Pair(s.Path(test.cert), s.Path(test.key))
		if bad := test.ca != "" && caErr != nil || test.cert != "" && pairErr != nil; bad != (len(got) > 0) {
			t.Errorf("%+v: check says %q, reading %v and %v", test, got, caErr, pairErr)
		}
	}
}

func quoted(s string) string { return "\"" + s + "\"" }
