package device

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/phonepath"
)

// A Phone is a computer on which commands run as root. Several may run at once.
type Phone interface {
	// Name is how people know it: an adb serial, user@host, a folder.
	Name() string
	// Root is the folder that holds sov's programs and machines there.
	Root() phonepath.Root
	// Run runs a command as root and waits for its end. The error is an *ExitError for an exit
	// status other than 0, a *RootError where the phone does not give root rights, a *LostError
	// where the connection failed or broke before the command had ended, a *TimeoutError when a
	// bound of the command's was reached, and the context's when that ended.
	Run(ctx context.Context, c Command) error
}

// A Command is what Run runs. Args are passed as they are: nothing in them means anything to a
// shell.
type Command struct {
	Args   []string  // a program and its arguments
	Stdin  io.Reader // nil: empty; a read of it may go on when Run has returned
	Stdout io.Writer // nil: thrown away
	Stderr io.Writer // nil: its end is in the ExitError

	AsShell bool // as the user of the phone's shell, not as root

	Limit time.Duration // for the whole command; 0: DefaultLimit; NoLimit: until the context ends
	Idle  time.Duration // without a byte in any direction, but for what Stdout and Stderr take; 0: none
}

const (
	// DefaultLimit is for commands that answer at once: it allows for a phone that wakes up and a
	// slow link.
	DefaultLimit = time.Minute
	// NoLimit is for commands that go on, such as the following of a log, or that Idle bounds.
	NoLimit time.Duration = -1
)

// An ExitError is a command that ended with an exit status other than 0.
type ExitError struct {
	Phone  string
	Args   []string
	Status int
	Stderr string // the end of what it wrote there
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s: %s: exit status %d", e.Phone, command(e.Args), e.Status)
	if said := strings.TrimSpace(e.Stderr); said != "" {
		text += ": " + said
	}
	return text
}

// A LostError is a connection that could not be made, or that broke before a command had ended. The
// command may go on.
type LostError struct {
	Phone  string
	Reason string // what the client said, with what to do
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s: the connection is lost: %s", e.Phone, e.Reason)
}

// A TimeoutError is a command that was given up. It may go on.
type TimeoutError struct {
	Phone string
	Args  []string
	After time.Duration
	Idle  bool // it was silent for that long; else it took that long
}

func (e *TimeoutError) Error() string {
	what := "has not ended"
	if e.Idle {
		what = "neither took nor sent anything"
	}
	return fmt.Sprintf("%s: %s %s for %v: is the phone awake and the cable or network sound?", e.Phone, command(e.Args), what, e.After)
}

// Timeout makes it a timeout as package net understands it.
func (e *TimeoutError) Timeout() bool { return true }

// A RootError is a phone on which commands do not run as root.
type RootError struct {
	Phone string
	Said  string // what su answered
}

func (e *RootError) Error() string {
	return fmt.Sprintf("%s: no root (%s): root the phone with KernelSU or Magisk, and in its app allow superuser rights to \"Shell\" (com.android.shell), or to the ssh server's app",
		e.Phone, e.Said)
}

// command is a command line for people: long arguments are cut.
func command(args []string) string {
	const enough = 60
	line := Quote(args)
	if len(line) > enough {
		line = line[:enough] + "…"
	}
	return line
}
