// Command sov turns an Alpine image into a flashable PostgreSQL virtual machine for a rooted Android phone, and runs
// it. Each verb has a file of its own here; what it does lives in the packages below.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
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
	// The first signal asks for an orderly end; once it came, the next one is the system's to handle: it kills.
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one command line and returns its exit status.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	var found *foundError
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &found):
		fmt.Fprintf(errOut, "sov: %v\n", err)
		return exitFound
	case errors.As(err, &usage):
		fmt.Fprintf(errOut, "sov: %v\n", err)
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(errOut, "sov: interrupted")
		return exitFailed
	default:
		fmt.Fprintf(errOut, "sov: %v\n", err)
		return exitFailed
	}
}

// A usageError is a command line that cannot be meant.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// A foundError is a check that worked and found something wrong.
type foundError struct{ what string }

func (e *foundError) Error() string { return e.what }
