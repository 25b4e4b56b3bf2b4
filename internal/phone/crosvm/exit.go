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
	Vanished         Kind = "vanished"          // crosvm says that the guest stopped, and the guest did not say so: the hypervisor gave up on it, or crosvm was asked to stop
	Reset            Kind = "reset"             // the guest rebooted
	Crash            Kind = "crash"             // the processor gave up on the guest
	Panic            Kind = "panic"             // the guest's kernel panicked
	InvalidArguments Kind = "invalid-arguments" // crosvm did not understand what it was told
	Watchdog         Kind = "watchdog"          // the guest's processors stood still
	Killed           Kind = "killed"            // by a signal
	Failed           Kind = "failed"            // crosvm itself failed, such as for want of memory or of /dev/kvm
)

// statuses are crosvm's exit statuses with --extended-status (src/crosvm/sys.rs, CommandStatus).
var statuses = map[int]Kind{0: Stopped, 32: Reset, 33: Crash, 34: Panic, 35: InvalidArguments, 36: Watchdog}

// An Exit is how a run of crosvm ended.
type Exit struct {
	Kind   Kind
	Code   int            // exit status; -1 where a signal ended it
	Signal syscall.Signal // 0 where none did
	Reason string         // what crosvm said of it; empty: nothing

	Announced bool // the guest has told its host that it shuts down
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

// Explain returns the exit as what the guest wrote to its console and what crosvm said tell of it.
//
// crosvm ends with status 0 also when the hypervisor crashed (its event "system crash" is taken for
// a stop), and a panic is a reset to it where the guest has no driver for its pvpanic device. A
// guest's kernel, on the other hand, says before it powers off or reboots that it does.
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

// A word is what a guest's kernel says at its end.
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

// lastWord is the last that a kernel said of its end on its console.
func lastWord(console string) word {
	at, last := -1, nothing
	for _, w := range words {
		if i := strings.LastIndex(console, w.text); i > at {
			at, last = i, w.word
		}
	}
	return last
}

// String says what happened, for people.
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

// killer names who ends processes with a signal on a phone.
func killer(s syscall.Signal) string {
	if s == syscall.SIGKILL {
		return ": by a person, for want of memory, or by Android with the control group that it was in"
	}
	return ""
}
