//go:build prove

package prove

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The test binary starts itself again in these roles, for the script that
// cuts the power.
const roleEnv = "PROVE_ROLE"

func TestMain(m *testing.M) {
	// A socket in a shared runtime directory would be one for all gateways.
	os.Unsetenv("XDG_RUNTIME_DIR")
	os.Unsetenv("RUNTIME_DIRECTORY")
	switch role := os.Getenv(roleEnv); role {
	case "":
		code := m.Run()
		for _, dir := range built {
			os.RemoveAll(dir)
		}
		os.Exit(code)
	case "promise":
		roleMain(promise)
	case "check":
		roleMain(checkPromises)
	default:
		fmt.Fprintf(os.Stderr, "%s=%s: no such role\n", roleEnv, role)
		os.Exit(2)
	}
}

func roleMain(run func(args []string) error) {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

var built []string // directories of built binaries

// binary returns the path of holdfast, built once.
var binary = sync.OnceValues(func() (string, error) { return build("HOLDFAST_BIN", "") })

// unsafeBinary returns the path of a holdfast that can be told not to sync.
var unsafeBinary = sync.OnceValues(func() (string, error) { return build("HOLDFAST_NOSYNC_BIN", "nosync") })

func build(env, tags string) (string, error) {
	if path := os.Getenv(env); path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.MkdirTemp("", "holdfast-prove-")
	if err != nil {
		return "", err
	}
	built = append(built, dir)
	path := filepath.Join(dir, "holdfast")
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "holdfast/cmd/holdfast")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build holdfast: %w\n%s", err, out)
	}
	return path, nil
}

// long reports whether the long form was asked for.
func long() bool { return os.Getenv("PROVE_LONG") == "1" }

// cannot skips a proof with the reason, or fails it where it has to run.
func cannot(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("cannot run here: "+format, args...)
	}
	t.Skipf("SKIP: "+format, args...)
}

// needRoot skips a proof that mounts or limits things.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		cannot(t, "needs root, for mounts and cgroups")
	}
}

// needTools skips a proof that uses programs which are not installed.
func needTools(t testing.TB, names ...string) {
	t.Helper()
	var missing []string
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		cannot(t, "not installed: %s", strings.Join(missing, ", "))
	}
}

// folder makes a folder that is removed at the end of the test. Its name is
// short, because control sockets lie below it.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "p") //nolint:usetesting // t.TempDir puts the long name of the test into the path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// command runs a program to its end and fails the proof if it fails.
func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
