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
	// Name is the phone's name for users: an adb serial, user@host, a folder.
	Name() string
	// Root is the folder of sov's programs and machines on the phone.
	Root() phonepath.Root
	// Run runs a command as root and waits for its end. The error is an *ExitError for an exit
	// status other than 0, a *RootError if the phone does not grant root rights, a *LostError if
	// the connection failed or broke before the command had ended, a *TimeoutError if a limit of
	// the command was reached, and the context's error when that ends.
	Run(ctx context.Context, c Command) error
}

// A Command is a command for Run. Args are passed unchanged, without interpretation by a shell.
type Command struct {
	Args   []string  // a program and its arguments
	Stdin  io.Reader // nil: empty; a read may still be running after Run has returned
	Stdout io.Writer // nil: thrown away
	Stderr io.Writer // nil: the ExitError has its end

	AsShell bool // as the user of the phone's shell, not as root
	// Live is for commands that answer what they read: Stdout gets each byte as soon as it comes.
	// Otherwise a last byte that may begin the mark after the output is held back.
	Live bool

	Limit time.Duration // for the whole command; 0: DefaultLimit; NoLimit: until the context ends
	Idle  time.Duration // maximum silence in both directions, without the time that Stdout and Stderr take; 0: no limit
}

const (
	// DefaultLimit is for short commands: it allows for a phone that wakes up and a slow link.
	DefaultLimit = time.Minute
	// NoLimit is for long-running commands, such as following a log, and for those with Idle.
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

// A LostError says that a connection failed, or broke before a command had ended. The command may
// still be running.
type LostError struct {
	Phone  string
	Reason string // the client's message, with advice
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s: the connection is lost: %s", e.Phone, e.Reason)
}

// A TimeoutError says that a command reached a limit. It may still be running.
type TimeoutError struct {
	Phone string
	Args  []string
	After time.Duration
	Idle  bool // the limit of silence; otherwise that of the whole command
}

func (e *TimeoutError) Error() string {
	what := "has not ended"
	if e.Idle {
		what = "neither took nor sent anything"
	}
	return fmt.Sprintf("%s: %s %s for %v: is the phone awake and the cable or network sound?", e.Phone, command(e.Args), what, e.After)
}

// Timeout marks it as a timeout, as in package net.
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

// command formats a command line for messages: long arguments are shortened.
func command(args []string) string {
	const enough = 60
	line := Quote(args)
	if len(line) > enough {
		line = line[:enough] + "…"
	}
	return line
}
