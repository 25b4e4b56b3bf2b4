// Command sov turns an Alpine image into a flashable PostgreSQL virtual machine for a rooted
// Android phone, and runs it. Each command has a file here, which parses its flags and calls other
// packages.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sovereign-sql/sov/internal/host/device"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/internal/host/terminal"
)

// The exit statuses of every command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitFound  = 3 // a check (verify, diff, doctor, …) found something
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal requests a clean shutdown; the next one has its default action and kills.
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit status.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	// All output goes through these two writers, which remove control sequences of untrusted text.
	// Standard output that is not a terminal is not changed.
	out, errOut = terminal.ForScreen(out), terminal.NewWriter(errOut)
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	addCompletion(root)
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	status := exitFailed
	switch other := new(statusError); {
	case errors.As(err, &other):
		return other.status
	case errors.As(err, new(*fleet.FoundError)):
		status = exitFound
	case errors.As(err, new(*usageError)), errors.As(err, new(*device.ChoiceError)), errors.As(err, new(*settings.Error)):
		status = exitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
		if text := afterInterrupt[ran.CommandPath()]; text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
	}
	fmt.Fprintf(errOut, "sov: %v\n", err)
	return status
}

// A statusError is the exit status of a program that was run for the user and has printed its own
// error.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// A usageError is an invalid command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// orFound returns err or, if that is nil and found is set, the error of a check that found a
// problem.
func orFound(err error, found bool, format string, args ...any) error {
	if err == nil && found {
		return foundf(format, args...)
	}
	return err
}

// foundf returns the error of a check that succeeded and found a problem.
func foundf(format string, args ...any) error {
	return &fleet.FoundError{What: fmt.Sprintf(format, args...)}
}
