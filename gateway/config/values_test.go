package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "500ms": 500 * time.Millisecond, "24h": day, "7d": 7 * day, "2w": 14 * day,
		"1d12h": 36 * time.Hour, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "10us": 10 * time.Microsecond, "3ns": 3,
	} {
		got, err := ParseDuration(text)
		if err != nil || got.Std() != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
		if again, err := ParseDuration(got.String()); err != nil || again != got {
			t.Errorf("%v is read again as %v, %v", got, again, err)
		}
	}
	for _, text := range []string{"", "5", "-1s", "+1s", "1 s", "h", "1y", "1s2", "1e3s", "300000000h", "99999999999999999999d", "1S"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "4096": 4096, "17B": 17, "64KiB": 65536, "256MiB": 256 << 20, "1GiB": 1 << 30, "1GB": 1e9, "1kB": 1000,
		"1.5GiB": 3 << 29, "8 MiB": 8 << 20,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %d", text, got, err, want)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%v is read again as %v, %v", got, again, err)
		}
	}
	for _, text := range []string{"", "-1", "1G", "1gib", "MiB", "1e3", "9000000TiB", "1 2MiB", "0x10"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestASecretIsNeverPrinted(t *testing.T) {
	s := NewSecret("hunter2")
	type holder struct {
		S  Secret
		P  *Secret
		In map[string]Secret
		in Secret // fmt cannot call its methods
	}
	h := holder{s, &s, map[string]Secret{"k": s}, s}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&b, verb, s)
		fmt.Fprintf(&b, verb, &s)
		fmt.Fprintf(&b, verb, h.S)
		fmt.Fprintf(&b, verb, h.In)
		fmt.Fprintf(&b, verb, h)
		fmt.Fprintf(&b, verb, &h)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(handler).Info("m", "secret", s, "pointer", &s, "holder", h)
	}
	for _, encode := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		text, err := encode(h)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	if text := b.String(); strings.Contains(text, "hunter2") || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("printed:\n%s", text)
	}
	if !strings.Contains(b.String(), "(secret)") || (Secret{}).String() != "" || s.Reveal() != "hunter2" {
		t.Error("the placeholder is missing, or shown for no secret")
	}
}

func TestASecretComesFromAFileBesideTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"token": "hunter2\n", "c.yaml": "name: a\ntoken: Bearer ${file:token}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Load(filepath.Join(dir, "c.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var got example
	if err := s.Decode(&got); err != nil || got.Token.Reveal() != "Bearer hunter2" {
		t.Errorf("got %q, %v", got.Token.Reveal(), err)
	}
}

func TestMistakesAroundSecretsDoNotShowThem(t *testing.T) {
	for _, text := range []string{
		"token: hunter2 ${HOLDFAST_TEST_UNSET}",
		"tokne: hunter2",
		"token: a\ntoken: hunter2",
		"password: hun: ter2 hunter2",
		"headers: {X: 'hunter2 ${HOLDFAST_TEST_UNSET} hunter2'}",
		"token: {a: hunter2}",
		"token: [hunter2]",
	} {
		var errs Errors
		s, err := LoadBytes("test.yaml", []byte("name: x\n"+text+"\n"))
		errs.Add(err)
		if s != nil {
			errs.Add(s.Decode(&example{}))
		}
		if err := errs.Err(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s:\n%v", text, err)
		}
	}
}

func TestNearestFindsWhatWasMeant(t *testing.T) {
	known := []string{"listen", "max_packet", "max_clients", "topics", "from", "url"}
	for word, want := range map[string]string{
		"lisen": "listen", "max-packet": "max_packet", "maxClients": "max_clients", "topcis": "topics", "form": "from",
		"ulr": "url", "zzz": "", "": "", "x": "", "password": "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
