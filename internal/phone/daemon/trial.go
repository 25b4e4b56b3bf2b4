package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// trialStarts is how often a version that was never ready is started before the daemon rolls back
// to another version. The second start is for failures that the phone caused.
const trialStarts = 2

// errNotReady ends the start of a version on trial that did not become ready.
var errNotReady = errors.New("it did not become ready")

// tryCurrent returns the slot to start, and begins its trial if it has not been ready yet.
func (d *Daemon) tryCurrent() (slot string, err error) {
	slot, trial, back, err := slots.Try(d.vm)
	if err != nil {
		return "", err
	}
	if back != nil {
		d.noteRollBack(back)
	}
	d.trial = trial
	d.state.change(func(s *runnerapi.State) { s.Slot, s.Trial = slot, trial.CanGiveUp() })
	return slot, nil
}

// pass records that the running version has been ready.
func (d *Daemon) pass() {
	if err := d.trial.Passed(); err != nil {
		d.log(fmt.Sprintf("note that this version works: %v", err))
	}
	d.state.change(func(s *runnerapi.State) { s.Trial = false })
}

// hopeless returns a channel with the reason to give up a version on trial: a service has failed
// permanently, or it was not ready in time. It returns nil if there is no other version.
func (d *Daemon) hopeless(ctx context.Context, w *guestWatch, a *artifact) <-chan error {
	if !d.trial.CanGiveUp() {
		return nil
	}
	why := make(chan error, 1)
	go func() {
		timer := time.NewTimer(a.spec.Ready.Timeout())
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-w.ready:
		case <-w.failed:
			why <- fmt.Errorf("%w: %s", errNotReady, describeState(new(d.state.get())))
		case <-timer.C:
			why <- fmt.Errorf("%w within %v: %s", errNotReady, a.spec.Ready.Timeout(), describeState(new(d.state.get())))
		}
	}()
	return why
}

// noteRollBack records a rollback in the log and the state.
func (d *Daemon) noteRollBack(back *runnerapi.RollBack) {
	d.log(fmt.Sprintf("version %s in slot %s does not work: %s: going back to slot %s", back.Version, back.From, back.Reason, back.To))
	d.state.change(func(s *runnerapi.State) { s.RollBack, s.Trial = back, false })
	d.trial = nil
	d.policy.failures = 0
}

// leaveDamaged gives up a version whose files are damaged, however long it has worked. It returns
// true if the other version is now current and must be started.
func (d *Daemon) leaveDamaged(damage error) bool {
	back, err := slots.Damaged(d.vm, d.state.get().Slot, damage.Error())
	if err != nil {
		d.log(fmt.Sprintf("note the damage: %v", err))
	}
	if back == nil {
		return false
	}
	d.noteRollBack(back)
	return true
}

// judge decides after the end of a start whether to give up the version on trial. It returns true
// if the other version is now current and must be started.
func (d *Daemon) judge(ctx context.Context, exit crosvm.Exit, ready time.Duration, err error) bool {
	if ready > 0 || !d.trial.CanGiveUp() {
		return false
	}
	if ctx.Err() != nil || errors.Is(err, errRenewed) || errors.Is(err, errBatteryLow) {
		// It ended for another reason: stopping a version before it is ready does not make it bad.
		if err := d.trial.Undo(); err != nil {
			d.log(err.Error())
		}
		return false
	}
	unfit := errors.As(err, new(versionError))
	nothingRan := err != nil && !errors.Is(err, errNotReady) && !unfit
	last := unfit || errors.Is(err, errNotReady) || exit.Kind == crosvm.InvalidArguments || d.trial.Starts() >= trialStarts
	if nothingRan || !last {
		return false
	}
	back, failure := d.trial.GiveUp(d.fault(exit, err))
	if failure != nil {
		d.log(fmt.Sprintf("go back to the other version: %v", failure))
		return false
	}
	d.noteRollBack(back)
	return true
}

// A versionError says that the version in the current slot cannot be started.
type versionError struct{ error }

func (e versionError) Unwrap() error { return e.error }

// fault returns why a version does not work: its exit and the last message on its console.
func (d *Daemon) fault(exit crosvm.Exit, err error) string {
	if errors.As(err, new(versionError)) {
		return err.Error()
	}
	reason := exit.String()
	if errors.Is(err, errNotReady) {
		reason = err.Error()
	}
	if early := d.earlyWords(); early != "" {
		return reason + early
	}
	if last := lastWords(d.vm.Console()); last != "" {
		reason += " (the last on its console: " + last + ")"
	}
	return reason
}

// openConsoles records where this start's console output begins, and empties the early console's
// file, which has one start only.
func (d *Daemon) openConsoles() error {
	d.console = size(d.vm.Console())
	f, err := os.OpenFile(d.vm.Early(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("early console: %w", err)
	}
	return f.Close()
}

// earlyWords returns the last message on the early console, or "" if the guest wrote to its normal
// console.
func (d *Daemon) earlyWords() string {
	if size(d.vm.Console()) != d.console {
		return ""
	}
	if last := lastWords(d.vm.Early()); last != "" {
		return " before its console was there (the last on its early console: " + last + ")"
	}
	return ""
}

// maxWords is the maximum length of a console line in a reason, in bytes.
const maxWords = 200

// lastWords returns the console line with the reason for the end: the kernel's panic message, else
// the last line.
func lastWords(console string) string {
	lines, err := tail(console, 100)
	if err != nil || len(lines) == 0 {
		return ""
	}
	said := lines[len(lines)-1]
	for _, line := range lines {
		// kernel/panic.c: "Kernel panic - not syncing: …"; arch/*/kernel/traps.c and others:
		// "Internal error: …"
		if i := strings.Index(line, "Kernel panic"); i >= 0 && !strings.Contains(line, "end Kernel panic") {
			said = line[i:]
			break
		}
	}
	said = strings.ToValidUTF8(strings.TrimSpace(said), "?")
	return said[:min(len(said), maxWords)]
}
