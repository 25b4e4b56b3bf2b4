package crosvm

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

// A Kind is a way in which crosvm ends.
type Kind string

// Kinds of ends.
const (
	Stopped          Kind = "stopped"           // the guest powered off, or crosvm was asked to stop
	Reset            Kind = "reset"             // the guest rebooted
	Crash            Kind = "crash"             // the processor or the hypervisor gave up on the guest
	Panic            Kind = "panic"             // the guest's kernel panicked
	InvalidArguments Kind = "invalid-arguments" // crosvm did not understand or could not do what it was told
	Watchdog         Kind = "watchdog"          // the guest's processors stood still
	Killed           Kind = "killed"            // by a signal
	Failed           Kind = "failed"            // crosvm itself failed, such as for want of memory or of /dev/kvm
)

// statuses are crosvm's exit statuses (src/crosvm/sys.rs, CommandStatus).
var statuses = map[int]Kind{0: Stopped, 32: Reset, 33: Crash, 34: Panic, 35: InvalidArguments, 36: Watchdog}

// An Exit is how a run of crosvm ended.
type Exit struct {
	Kind   Kind
	Code   int            // exit status; -1 where a signal ended it
	Signal syscall.Signal // 0 where none did
}

// exitOf reads the outcome of a finished command.
func exitOf(err error) Exit {
	if err == nil {
		return Exit{Kind: Stopped}
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return Exit{Kind: Failed, Code: -1}
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return Exit{Kind: Killed, Code: -1, Signal: status.Signal()}
	}
	if kind, known := statuses[exit.ExitCode()]; known {
		return Exit{Kind: kind, Code: exit.ExitCode()}
	}
	return Exit{Kind: Failed, Code: exit.ExitCode()}
}

// String says what happened, for people.
func (e Exit) String() string {
	switch e.Kind {
	case Stopped:
		return "the guest powered off"
	case Reset:
		return "the guest rebooted"
	case Crash:
		return "the guest crashed (crosvm's exit status 33)"
	case Panic:
		return "the guest's kernel panicked (crosvm's exit status 34)"
	case InvalidArguments:
		return "crosvm refused its arguments (exit status 35)"
	case Watchdog:
		return "the guest's processors stood still and the watchdog ended it (crosvm's exit status 36)"
	case Killed:
		return fmt.Sprintf("crosvm was killed (%v)%s", e.Signal, killer(e.Signal))
	default:
		return fmt.Sprintf("crosvm failed (exit status %d)", e.Code)
	}
}

// killer names who ends processes with a signal on a phone.
func killer(s syscall.Signal) string {
	if s == syscall.SIGKILL {
		return ": by a person, for want of memory, or by Android with the control group that it was in"
	}
	return ""
}
