//go:build vm

// Command guest is the first process of the virtual machine of package vmtest.
// It makes the machine fit for a Go program, loads the modules that /modules
// names, a file in each line, runs /test with the arguments of /args, one in
// each line, prints how that ended for the command boot, and ends the machine.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Exit codes beside those of the program.
const (
	notStarted = 98
	hangs      = 97
)

// patience is how many seconds a process that was killed has to end.
const patience = 60

func main() {
	code, err := run()
	if err != nil {
		fmt.Println("guest:", err)
	}
	fmt.Printf("\nguest: exit %d\n", code)
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	fmt.Println("guest:", err)
	select {} // the kernel panics when its first process ends
}

func run() (code int, err error) {
	if err := prepare(); err != nil {
		return notStarted, err
	}
	args, err := lines("/args")
	if err != nil {
		return notStarted, err
	}
	test := exec.Command("/test", args...)
	test.Dir = "/tmp"
	test.Env = []string{"HOME=/tmp", "TMPDIR=/tmp", "PATH=/", "VMTEST=1"}
	test.Stdout, test.Stderr = os.Stdout, os.Stdout
	if err := test.Start(); err != nil {
		return notStarted, err
	}
	ended := make(chan error, 1)
	go func() { ended <- test.Wait() }()
	for dying := 0; dying < patience; {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() > 0 {
				return exit.ExitCode(), nil
			}
			if err != nil {
				return notStarted, err
			}
			return 0, nil
		case <-time.After(time.Second):
			dying++
			if !killed(test.Process.Pid) {
				dying = 0
			}
		}
	}
	return hangs, errors.New("the test has ended but waits for a transfer that only itself could answer")
}

// prepare mounts what programs expect, loads modules, and brings up the
// network that stays within the machine.
func prepare() error {
	mounts := []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"},
	}
	for _, m := range mounts {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	modules, err := lines("/modules")
	if err != nil {
		return err
	}
	for _, file := range modules {
		if err := load(file); err != nil {
			return fmt.Errorf("load %s: %w", file, err)
		}
	}
	if err := unix.Mount("configfs", "/sys/kernel/config", "configfs", 0, ""); err != nil {
		return fmt.Errorf("mount configfs: %w", err)
	}
	return loopback()
}

func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

func loopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }() // nothing was sent
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}

// killed reports whether a thread of the process is to die and does not.
func killed(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range threads {
		status, _ := lines(file)
		for _, line := range status {
			var pending uint64
			if n, _ := fmt.Sscanf(line, "SigPnd: %x", &pending); n == 1 && pending>>(unix.SIGKILL-1)&1 == 1 {
				return true
			}
		}
	}
	return false
}

func lines(file string) (all []string, err error) {
	text, err := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		all = append(all, strings.TrimRight(line, "\n"))
	}
	return all, err
}
