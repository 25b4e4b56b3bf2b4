package crosvm

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/testkit/androidtest/crosvmcli"
)

// A logger writes crosvm's log to standard error in the format of its release.
type logger struct {
	release crosvmcli.Release
	level   string // of --log-level
}

func newLogger(r crosvmcli.Release, level string) *logger { return &logger{r, level} }

// say writes a line of a module at a level, such as "INFO".
func (l *logger) say(level, module, text string) {
	if strings.HasPrefix(l.level, "off") {
		return
	}
	if l.release == crosvmcli.Android13 {
		fmt.Fprintf(os.Stderr, "[%s:%s.rs:1] %s\n", level, strings.ReplaceAll(module, "::", "/"), text)
		return
	}
	fmt.Fprintf(os.Stderr, "[%s %-5s %s] %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000000000+00:00"), level, module, text)
}

// refuse writes why arguments were rejected.
func (l *logger) refuse(r *crosvmcli.Refusal) {
	switch {
	case l.release == crosvmcli.Android13:
		l.say("ERROR", "src::main", r.Text)
	case r.Status == crosvmcli.StatusInvalidArguments:
		l.say("ERROR", "crosvm", "arg parsing failed: "+r.Text)
		l.say("INFO", "crosvm", "invalid argument")
	default: // crosvm reports a contradictory configuration twice
		fmt.Fprintln(os.Stderr, r.Text)
		l.say("ERROR", "crosvm", "exiting with error 1: "+r.Text)
	}
}

// An outcome is how a run of crosvm ended.
type outcome int

const (
	stop outcome = iota // also after a system crash event of the hypervisor
	reset
	crash
	guestPanic
	watchdog
	failure
	refused // as if the arguments were invalid
)

// statuses maps outcomes to crosvm's exit statuses with --extended-status (src/main.rs,
// CommandStatus), and to the last messages of 14 and of 13.
var statuses = map[outcome]struct {
	code         int
	text, text13 string
}{
	stop:       {0, "exiting with success", "crosvm has exited normally"},
	reset:      {32, "exiting with reset", "crosvm has exited normally due to reset request"},
	crash:      {33, "exiting with crash", "crosvm has exited due to a VM crash"},
	guestPanic: {34, "exiting with guest panic", "crosvm has exited due to a kernel panic in guest"},
	watchdog:   {36, "exiting with watchdog reset", ""},
}

// end logs how a run ended, and returns its exit status.
func (l *logger) end(o outcome, err error, extended bool) int {
	old := l.release == crosvmcli.Android13
	switch {
	case o == refused && old:
		return crosvmcli.StatusFailed
	case o == refused:
		return crosvmcli.StatusInvalidArguments
	case o == failure && old:
		l.say("ERROR", "src::main", "crosvm has exited with error: "+strings.Join(chain(err), ": "))
		return crosvmcli.StatusFailed
	case o == failure:
		l.say("ERROR", "crosvm", "exiting with error 1: "+anyhow(err))
		return crosvmcli.StatusFailed
	case o == watchdog && old: // 13 has no watchdog: the guest hangs until its process is killed
		o = stop
	}
	s := statuses[o]
	if old {
		l.say("INFO", "src::main", s.text13)
	} else if extended {
		l.say("INFO", "crosvm", s.text)
	} else {
		l.say("INFO", "crosvm", statuses[stop].text)
	}
	if !extended {
		return 0
	}
	return s.code
}

// A cause is an error and crosvm's operation that it interrupted.
type cause struct {
	about string
	err   error
}

func (c *cause) Error() string { return c.about + ": " + c.err.Error() }
func (c *cause) Unwrap() error { return c.err }

// because wraps an error with crosvm's operation.
func because(err error, format string, args ...any) error {
	return &cause{fmt.Sprintf(format, args...), err}
}

// chain returns the texts of an error's causes, the outermost first.
func chain(err error) []string {
	var out []string
	for err != nil {
		c, ok := err.(*cause) //nolint:errorlint // each link is taken by itself
		if !ok {
			return append(out, osError(err))
		}
		out = append(out, c.about)
		err = c.err
	}
	return out
}

// anyhow formats an error like the Rust library anyhow.
func anyhow(err error) string {
	causes := chain(err)
	text := causes[0]
	if len(causes) > 1 {
		text += "\n\nCaused by:"
	}
	for i, c := range causes[1:] {
		if len(causes) == 2 {
			text += "\n    " + c
		} else {
			text += fmt.Sprintf("\n    %d: %s", i, c)
		}
	}
	return text
}
