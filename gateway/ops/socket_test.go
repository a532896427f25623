package ops

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocketIsForOwnerAndGroupOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", SocketName)
	l, err := ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o660 {
		t.Errorf("mode is %o, want 660", got)
	}
	l.Close()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is left after Close: %v", err)
	}
}

func TestSocketOfADeadGatewayIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false) // as after kill -9
	dead.Close()
	l, err := ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestSocketOfARunningGatewayIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	l, err := ListenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := ListenControl(path); err == nil || !strings.Contains(err.Error(), "another gateway is running") {
		t.Errorf("got %v", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the running gateway lost its socket: %v", err)
	} else {
		c.Close()
	}
}

func TestSocketNeverReplacesAnythingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenControl(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file was overwritten")
	}
}

func TestSocketPathThatIsTooLongSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", maxSocketPath), SocketName)
	if _, err := ListenControl(path); err == nil || !strings.Contains(err.Error(), "RUNTIME_DIRECTORY") {
		t.Errorf("got %v", err)
	}
}

func TestSocketPathPrefersTheServiceManagersDirectory(t *testing.T) {
	for _, tt := range []struct{ runtime, xdg, want string }{
		{"/run/holdfast:/run/other", "/run/user/1", "/run/holdfast/holdfast.sock"},
		{"", "/run/user/1", "/run/user/1/holdfast/holdfast.sock"},
		{"", "", "/data/holdfast.sock"},
	} {
		t.Setenv("RUNTIME_DIRECTORY", tt.runtime)
		t.Setenv("XDG_RUNTIME_DIR", tt.xdg)
		if got := SocketPath("/data"); got != tt.want {
			t.Errorf("RUNTIME_DIRECTORY=%q XDG_RUNTIME_DIR=%q: %s, want %s", tt.runtime, tt.xdg, got, tt.want)
		}
	}
}

func TestClientWithoutAGatewayTellsWhatToDo(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	none := filepath.Join(dir, "none.sock")
	for _, tt := range []struct {
		name  string
		paths []string
		where string
	}{
		{"no socket", []string{none}, none},
		{"several places", []string{none, none + "2"}, none + " or " + none + "2"},
		{"a dead one is the likelier place", []string{none, dead}, dead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewClient(tt.paths...).Status(t.Context())
			want := "gateway not reachable at " + tt.where + "; is it running? start it with: holdfast run --config FILE"
			if !errors.Is(err, ErrUnreachable) || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestClientFindsTheGatewayBehindADeadSocket(t *testing.T) {
	dead := filepath.Join(t.TempDir(), SocketName)
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	_, _, c := start(t, &fake{status: Status{Gateway: "pi"}})
	st, err := NewClient(append([]string{dead}, c.paths...)...).Status(t.Context())
	if err != nil || st.Gateway != "pi" {
		t.Errorf("got %q, %v", st.Gateway, err)
	}
}
