package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"holdfast/gateway/broker"
)

func passwdCommand() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "passwd FILE USER",
		Short: "Set the password of an MQTT user",
		Long: `Set the password of an MQTT user in FILE, which is made if there is none. The
password is asked for on a terminal, and else read from the first line of
stdin; the file has only a hash of it. A running gateway takes the change with
'holdfast reload'.`,
		Example: `  holdfast passwd /etc/holdfast/users sensor-1`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, user := args[0], args[1]
			if err := checkUser(user); err != nil {
				return err
			}
			if remove {
				return editUsers(file, user, "")
			}
			password, err := readPassword(cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr(), user)
			if err != nil {
				return err
			}
			encoded, err := broker.HashPassword(password)
			if err != nil {
				return fmt.Errorf("hash password: %w", err)
			}
			return editUsers(file, user, user+":"+encoded)
		},
	}
	cmd.Flags().BoolVar(&remove, "delete", false, "remove the user")
	return cmd
}

// checkUser refuses names that a line of the file cannot hold.
func checkUser(name string) error {
	bad := func(r rune) bool { return r == ':' || unicode.IsControl(r) }
	if name == "" || strings.HasPrefix(name, "#") || strings.ContainsFunc(name, bad) || strings.TrimSpace(name) != name {
		return usagef("%s cannot be a user: a name has no colon, no control characters, no space at its ends, and does not begin with #", quote(name))
	}
	return nil
}

// readPassword asks for a password twice on a terminal, without showing it,
// or reads one line of anything else.
func readPassword(ctx context.Context, in io.Reader, stderr io.Writer, user string) ([]byte, error) {
	var password []byte
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var err error
		if password, err = ask(ctx, f, stderr, "password for "+user+": "); err != nil {
			return nil, err
		}
		again, err := ask(ctx, f, stderr, "once more: ")
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(password, again) {
			return nil, errors.New("the two passwords differ; nothing was changed")
		}
	} else {
		line, err := bufio.NewReader(in).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read password: %w", err)
		}
		password = bytes.TrimRight(line, "\r\n")
	}
	if len(password) == 0 {
		return nil, errors.New("the password is empty; nothing was changed")
	}
	return password, nil
}

// ask reads a line from a terminal with the echo off. An interrupt leaves the
// terminal as it was.
func ask(ctx context.Context, tty *os.File, stderr io.Writer, prompt string) ([]byte, error) {
	type answer struct {
		line []byte
		err  error
	}
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	defer func() { _ = term.Restore(fd, before) }()
	fmt.Fprint(stderr, prompt)
	defer fmt.Fprintln(stderr)
	read := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		read <- answer{line, err}
	}()
	select {
	case a := <-read:
		if a.err != nil {
			return nil, fmt.Errorf("read password: %w", a.err)
		}
		return a.line, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// editUsers replaces the line of a user in file, or adds it, or with an empty
// line removes it. Everything else in the file stays as it is.
func editUsers(file, user, line string) error {
	old, err := os.ReadFile(file)
	if err != nil && (line == "" || !errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("read users: %w", err)
	}
	var b bytes.Buffer
	found := false
	for l := range strings.Lines(string(old)) {
		l = strings.TrimRight(l, "\r\n")
		if name, _, ok := strings.Cut(strings.TrimSpace(l), ":"); !ok || name != user {
			fmt.Fprintln(&b, l)
			continue
		}
		if line != "" && !found {
			fmt.Fprintln(&b, line)
		}
		found = true
	}
	switch {
	case !found && line == "":
		return fmt.Errorf("%s has no user %s", file, quote(user))
	case !found:
		fmt.Fprintln(&b, line)
	}
	if err := replaceFile(file, b.Bytes()); err != nil {
		return fmt.Errorf("write users: %w", err)
	}
	return nil
}

// replaceFile writes b to a file of mode 0600 in one step: after a crash it
// has the old content or the new. The owner, the group and what the group may
// do stay, so that root can edit the file of a service; others may do nothing.
func replaceFile(file string, b []byte) (err error) {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	dir := filepath.Dir(file)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if info, err := os.Stat(file); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			if err := tmp.Chown(int(st.Uid), int(st.Gid)); err != nil {
				return fmt.Errorf("keep the owner of %s: %w", file, err)
			}
		}
		if err := tmp.Chmod(0o600 | info.Mode()&0o060); err != nil {
			return fmt.Errorf("keep the mode of %s: %w", file, err)
		}
	}
	if _, err := tmp.Write(b); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
