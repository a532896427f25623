package ops

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// SocketName is the file name of the control socket.
const SocketName = "holdfast.sock"

// maxSocketPath is the longest path that Linux takes for a socket, without
// the byte that ends it.
const maxSocketPath = 107

// SocketPath returns where a gateway with the given store puts its control
// socket: in the directory that the service manager made for it, else in the
// user's runtime directory, else in the store.
func SocketPath(store string) string {
	return socketPaths(store)[0]
}

// SocketPaths returns where a client on this machine looks for the control
// socket, the likeliest place first. With an empty store it leaves out the
// store.
func SocketPaths(store string) []string {
	paths := socketPaths(store)
	if os.Getenv("RUNTIME_DIRECTORY") == "" {
		// Only the service itself has the variable; this is its usual value.
		paths = append(paths, filepath.Join("/run/holdfast", SocketName))
	}
	return paths
}

func socketPaths(store string) (paths []string) {
	// systemd lists several directories separated by colons.
	if dirs := filepath.SplitList(os.Getenv("RUNTIME_DIRECTORY")); len(dirs) > 0 {
		paths = append(paths, filepath.Join(dirs[0], SocketName))
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		paths = append(paths, filepath.Join(dir, "holdfast", SocketName))
	}
	if store != "" {
		paths = append(paths, filepath.Join(store, SocketName))
	}
	return paths
}

// ListenControl opens the control socket at path, for its owner and group
// only (mode 0660), and makes the directory if there is none. The file of a
// gateway that is dead is replaced; one that answers is an error. Closing the
// listener removes the file.
func ListenControl(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("open control socket: %s is %d bytes long, more than the %d a socket can have; set RUNTIME_DIRECTORY to a shorter directory", path, len(path), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return l, nil
}

// removeStale removes the socket at path if nobody listens on it. It removes
// nothing but sockets.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way and is not a socket; move it elsewhere", path)
	}
	c, err := net.DialTimeout("unix", path, 2*time.Second)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("another gateway is running and answers at %s; stop it first, or give this one a RUNTIME_DIRECTORY of its own", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	default:
		return fmt.Errorf("cannot tell whether a gateway is running at %s: %w", path, err)
	}
}
