package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"holdfast/gateway/config"
	"holdfast/gateway/ops"
)

// The exit codes, for scripts and service managers.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitConfig      = 3 // invalid configuration
	exitUnreachable = 4 // gateway not reachable
	exitPartial     = 5 // finished with some failures
)

// errBroker is wrapped by errors of reaching an MQTT broker.
var errBroker = errors.New("broker not reachable")

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// exitError ends the command with a code of its own. Without an error there
// is nothing to print: the command has said it.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return "exit " + strconv.Itoa(e.code)
	}
	return e.err.Error()
}

// report prints err for the user of the named command, and returns the exit
// code for it.
func report(stderr io.Writer, command string, err error) int {
	var (
		usage    *usageError
		exit     *exitError
		mistakes config.Errors
		refused  *ops.ConfigError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "holdfast: %v\nRun '%s --help' for how to use it.\n", err, command)
		return exitUsage
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(stderr, "holdfast: %v\n", err)
		}
		return exit.code
	case errors.As(err, &mistakes), errors.As(err, &refused):
		fmt.Fprintln(stderr, err) // begins with file:line:col
		return exitConfig
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(stderr, "holdfast: %v\n", err)
	switch {
	case errors.Is(err, ops.ErrUnreachable), errors.Is(err, errBroker):
		return exitUnreachable
	case errors.Is(err, errBench):
		return exitPartial
	}
	return exitFailed
}

func quote(s string) string { return strconv.Quote(s) }
