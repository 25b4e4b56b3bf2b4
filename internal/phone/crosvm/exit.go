package crosvm

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// A Kind is a way in which crosvm ends.
type Kind string

// Kinds of ends.
const (
	Stopped          Kind = "stopped"           // the guest powered off
	Vanished         Kind = "vanished"          // crosvm reports that the guest stopped, but the guest did not announce it: the hypervisor failed, or crosvm was told to stop
	Reset            Kind = "reset"             // the guest rebooted
	Crash            Kind = "crash"             // the guest crashed the virtual processor
	Panic            Kind = "panic"             // the guest's kernel panicked
	InvalidArguments Kind = "invalid-arguments" // crosvm refused its arguments
	Watchdog         Kind = "watchdog"          // the guest's processors were stalled
	Killed           Kind = "killed"            // by a signal
	Failed           Kind = "failed"            // crosvm itself failed, for example without memory or /dev/kvm
)

// statuses are crosvm's exit statuses with --extended-status (src/crosvm/sys.rs, CommandStatus).
var statuses = map[int]Kind{0: Stopped, 32: Reset, 33: Crash, 34: Panic, 35: InvalidArguments, 36: Watchdog}

// An Exit is how a run of crosvm ended.
type Exit struct {
	Kind   Kind
	Code   int            // exit status; -1 after a signal
	Signal syscall.Signal // 0 if not ended by a signal
	Reason string         // crosvm's message, or ""

	Announced bool // the guest announced its shutdown to the host
}

// exitOf returns the exit of a finished command.
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

// Explain refines the exit with the guest's console output and crosvm's own output.
//
// crosvm also exits with status 0 after a crash of the hypervisor (it treats the event "system
// crash" as a stop), and reports a panic as a reset if the guest does not have a driver for the
// pvpanic device. A guest's kernel, however, prints a message before it powers off or reboots.
func (e Exit) Explain(console, said string) Exit {
	word := lastWord(console)
	switch {
	case e.Kind == Stopped && word != poweredOff && !e.Announced:
		e.Kind = Vanished
	case e.Kind == Reset && word == panicked:
		e.Kind = Panic
	case e.Kind == Reset && word != rebooted:
		e.Kind = Crash
	}
	switch e.Kind {
	case Stopped, Reset, Panic:
	default:
		e.Reason = Complaint(said)
	}
	return e
}

// A word is a guest kernel's message at its end.
type word int

const (
	nothing    word = iota
	poweredOff      // kernel/reboot.c, kernel_power_off and kernel_halt
	rebooted        // kernel/reboot.c, kernel_restart
	panicked        // kernel/panic.c
)

var words = []struct {
	text string
	word
}{
	{"reboot: Power down", poweredOff}, {"reboot: System halted", poweredOff},
	{"reboot: Restarting system", rebooted}, {"Kernel panic - not syncing", panicked},
}

// lastWord returns the last message about a kernel's end on its console.
func lastWord(console string) word {
	at, last := -1, nothing
	for _, w := range words {
		if i := strings.LastIndex(console, w.text); i > at {
			at, last = i, w.word
		}
	}
	return last
}

// String describes the exit.
func (e Exit) String() string {
	text := e.text()
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

func (e Exit) text() string {
	switch e.Kind {
	case Stopped:
		return "the guest powered off"
	case Vanished:
		return "the machine stopped, and its guest had not powered off (the hypervisor gave up on it, or another program ran crosvm stop)"
	case Reset:
		return "the guest rebooted"
	case Crash:
		return fmt.Sprintf("the guest crashed (crosvm's exit status %d)", e.Code)
	case Panic:
		return fmt.Sprintf("the guest's kernel panicked (crosvm's exit status %d)", e.Code)
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

// killer names the usual sender of a signal on a phone.
func killer(s syscall.Signal) string {
	if s == syscall.SIGKILL {
		return ": by a person, for want of memory, or by Android with the control group that it was in"
	}
	return ""
}
