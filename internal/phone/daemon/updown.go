package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/phone/network"
)

// ErrNotReady is wrapped by the error of an Up whose machine did not become ready. The machine's
// daemon goes on.
var ErrNotReady = errors.New("the machine is not ready")

// Again is the signal that tells a daemon to start a machine afresh that it has given up, or that
// is off.
const Again = unix.SIGUSR1

// UpOptions say how to start a machine.
type UpOptions struct {
	Program string        // this program, to be run as the daemon
	NoWait  bool          // return once the daemon runs
	Timeout time.Duration // for the machine to be ready; 0: what its artifact says
	Report  func(string)  // takes lines about progress; nil: none
	// Keys are given to the daemon of a machine whose data disk's key is not kept on this phone: a
	// JSON object of the secrets guestspec.SecretDataKey and, during a change, SecretOldDataKey.
	Keys []byte

	// fallback is how long what a version on trial falls back to may take; nil: Timeout is the
	// caller's, and final. Else it is each start's of a version on trial.
	fallback func() time.Duration
}

// Up makes sure that the machine runs, and waits until it is ready. It starts a daemon unless there
// is one. When ctx ends, the waiting does, and the machine goes on starting.
func Up(ctx context.Context, root phonepath.Root, name string, o UpOptions) (runnerapi.State, error) {
	vm, err := lookUp(root, name)
	if err != nil {
		return runnerapi.State{}, err
	}
	settings, err := loadSettings(root)
	if err != nil {
		return runnerapi.State{}, err
	}
	a, err := loadArtifact(root, settings, vm)
	if errors.As(err, new(damageError)) {
		// The daemon rolls back to the other version if that is whole.
		if other, failure := loadOther(root, settings, vm); failure == nil {
			a, err = other, nil
		}
	}
	if err != nil {
		return runnerapi.State{}, err
	}
	if o.Report == nil {
		o.Report = func(string) {}
	}
	if a.spec.DataKey() != vmspec.KeyOnHost {
		o.Keys = nil
	}
	if o.Timeout == 0 {
		o.Timeout = a.spec.Ready.Timeout()
		o.fallback = func() time.Duration {
			if a, err := loadArtifact(root, settings, vm); err == nil {
				return a.spec.Ready.Timeout()
			}
			return o.Timeout
		}
	}
	state, err := startAndWait(ctx, root, vm, o)
	if errors.Is(err, errVanished) {
		state, err = startAndWait(ctx, root, vm, o)
	}
	if err != nil {
		return state, fmt.Errorf("start %s: %w", name, err)
	}
	return state, nil
}

func startAndWait(ctx context.Context, root phonepath.Root, vm phonepath.VM, o UpOptions) (runnerapi.State, error) {
	died, err := startDaemon(ctx, root, vm, o)
	if err == nil && o.Keys != nil {
		err = sendKeys(ctx, vm, o.Keys, died)
	}
	if err != nil {
		return runnerapi.State{}, err
	}
	return awaitReady(ctx, vm, o, died)
}

// errVanished says that there was a daemon and then was none: one that had just been killed, or was
// told to end.
var errVanished = errors.New("its daemon has ended")

// startDaemon starts a daemon unless there is one, which is told to try again where it has given
// up. The channel is closed when the daemon that was started ends; it is nil when there was one.
func startDaemon(ctx context.Context, root phonepath.Root, vm phonepath.VM, o UpOptions) (<-chan struct{}, error) {
	d, err := findDaemon(vm)
	if err != nil {
		return nil, err
	}
	if d != nil {
		defer d.close()
		state, err := readState(vm)
		if err == nil && state.Daemon == d.pid && (rests(state.Phase) || state.Phase == runnerapi.Backoff) {
			o.Report("the daemon has it " + string(state.Phase) + ": telling it to start afresh")
			if err := d.signal(Again); err != nil {
				return nil, err
			}
			return nil, awaitChange(ctx, vm, state)
		}
		return nil, nil
	}
	if err := durable.MkdirAll(vm.Run(), 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(vm.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// In a session of its own and without the caller's terminal or pipes: an adb shell returns, and
	// a hung-up one takes nothing along.
	daemon := exec.Command(o.Program, "daemon", vm.Name, "--root", string(root))
	daemon.Dir = "/"
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return nil, fmt.Errorf("start its daemon: %w", err)
	}
	o.Report(fmt.Sprintf("started the daemon, process %d", daemon.Process.Pid))
	died := make(chan struct{})
	go func() {
		daemon.Wait()
		close(died)
	}()
	return died, nil
}

// rests tells whether a daemon in this phase waits for a person.
func rests(p runnerapi.Phase) bool {
	return p == runnerapi.Failed || p == runnerapi.CrashLoop || p == runnerapi.Off || p == runnerapi.LowBattery || p == runnerapi.Locked
}

// awaitChange waits until the daemon has left the phase of a state, or has gone.
func awaitChange(ctx context.Context, vm phonepath.VM, was *runnerapi.State) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		if state, err := readState(vm); err != nil || !state.Since.Equal(was.Since) {
			return err
		}
		if pid, err := lockHolder(vm); err != nil || pid != was.Daemon {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("its daemon does not react: %w", ctx.Err())
		case <-time.After(statePoll):
		}
	}
}

const statePoll = 50 * time.Millisecond

// awaitReady follows the daemon's state until the machine is ready, or will not be.
func awaitReady(ctx context.Context, vm phonepath.VM, o UpOptions, died <-chan struct{}) (runnerapi.State, error) {
	begun := time.Now()
	deadline := begun.Add(o.Timeout)
	said := ""
	var warned []string
	for {
		gone := hasEnded(died)
		state, err := readState(vm)
		if err != nil {
			return runnerapi.State{}, err
		}
		pid, err := lockHolder(vm)
		if err != nil {
			return *state, err
		}
		current := pid != 0 && state.Daemon == pid // else it is what an earlier daemon has left
		if current {
			if text := describeState(state); text != said {
				said = text
				o.Report(text)
			}
			for _, warning := range state.Network.Warnings {
				if !slices.Contains(warned, warning) {
					warned = append(warned, warning)
					o.Report("warning: " + warning)
				}
			}
			switch {
			case o.fallback == nil:
			case state.Trial, state.WaitsFor != "":
				deadline = time.Now().Add(o.Timeout) // its daemon bounds it
			case rolledBack(state, begun):
				deadline = time.Now().Add(o.fallback())
				o.fallback = nil
			}
			ready := state.Phase == runnerapi.Ready && lifeOf("/proc", state.Crosvm) != "" // or was killed just now
			switch {
			case !o.NoWait && ready && rolledBack(state, begun):
				return *state, &RolledBackError{state.RollBack}
			case o.NoWait || ready:
				return *state, nil
			case state.Phase == runnerapi.Locked && o.Keys != nil: // which the daemon has, and is about to use
			case rests(state.Phase):
				return *state, fmt.Errorf("%w: %s: %s", ErrNotReady, state.Phase, state.Reason)
			}
		}
		switch {
		case died == nil && pid == 0:
			return *state, errVanished
		case gone && pid == 0:
			return *state, fmt.Errorf("%w: its daemon ended: %s", ErrNotReady, lastOf(vm.Log()))
		case time.Now().After(deadline):
			return *state, fmt.Errorf("%w within %v: %s; the last on its console: %s", ErrNotReady, o.Timeout, describeState(state), lastOf(vm.Console(), vm.Early()))
		}
		select {
		case <-ctx.Done():
			return *state, ctx.Err()
		case <-time.After(statePoll):
		}
	}
}

// A RolledBackError is the start of a version that did not work. The one before runs again.
type RolledBackError struct{ *runnerapi.RollBack }

func (e *RolledBackError) Error() string {
	return fmt.Sprintf("version %s in slot %s does not work: %s. Slot %s is what runs again, with the data untouched", e.Version, e.From, e.Reason, e.To)
}

// rolledBack tells whether the daemon went back to another version after a time.
func rolledBack(s *runnerapi.State, since time.Time) bool {
	return s.RollBack != nil && s.RollBack.At.After(since)
}

func hasEnded(died <-chan struct{}) bool {
	select {
	case <-died:
		return died != nil
	default:
		return false
	}
}

// lastOf is the last line of the first log that has one.
func lastOf(paths ...string) string {
	for _, path := range paths {
		if lines, err := tail(path, 1); err == nil && len(lines) > 0 {
			return strings.TrimSpace(lines[0])
		}
	}
	return "nothing"
}

// describeState is a line about a machine, for people.
func describeState(s *runnerapi.State) string {
	text := string(s.Phase)
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

// Down ends the machine in order and leaves nothing of it running, nor in the phone's network,
// whatever was killed before. It is no error when there is nothing.
func Down(ctx context.Context, root phonepath.Root, name string, report func(string)) error {
	vm, err := root.VM(name)
	if err != nil {
		return err
	}
	if report == nil {
		report = func(string) {}
	}
	if err := down(ctx, root, vm, report, func(_ string, err error) error { return err }); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	return nil
}

// down ends a machine. pass decides about the failure of a step: what it returns ends down, and
// with nil the next step follows.
func down(ctx context.Context, root phonepath.Root, vm phonepath.VM, report func(string), pass func(step string, err error) error) error {
	if _, err := os.Stat(vm.Dir()); errors.Is(err, os.ErrNotExist) {
		report("it is not installed: nothing to stop")
		return nil
	}
	settings := settingsOrDefaults(root, report)
	if err := pass("the daemon", endDaemon(ctx, vm, settings, report)); err != nil {
		return err
	}
	lock, err := takeLock(vm)
	if err == nil {
		defer lock.Release()
	}
	if err := pass(vm.Lock(), err); err != nil {
		return err
	}
	// A daemon that ended by itself has left nothing; one that was killed may have left anything.
	if err := pass("crosvm", stopOrphans(ctx, vm, settings, report)); err != nil {
		return err
	}
	if err := pass(stepNetwork, leaveNetwork(ctx, root, vm, settings, report)); err != nil {
		return err
	}
	if err := pass(vm.Run(), removeRunFiles(vm)); err != nil {
		return err
	}
	state, err := readState(vm)
	if err == nil && state.Phase == runnerapi.Down && state.Daemon == 0 {
		return nil
	}
	return writeFile(vm.State(), runnerapi.State{Format: runnerapi.Format, Name: vm.Name, Phase: runnerapi.Down, Since: time.Now().UTC()})
}

// stepNetwork is the step of down in the phone's network.
const stepNetwork = "the machine's place in the phone's network"

// leaveNetwork takes a machine of which nothing runs out of the phone's network.
func leaveNetwork(ctx context.Context, root phonepath.Root, vm phonepath.VM, s Settings, report func(string)) error {
	host, err := network.Open(network.Options{Ledger: root.Ledger(), IPTables: s.IPTables, Log: report})
	if err != nil {
		return err
	}
	changes, err := host.Down(ctx, vm.Name)
	for _, change := range changes.Changed {
		report("network: " + change)
	}
	return err
}

// endDaemon tells the daemon to end and waits for it; one that does not end is killed, and its work
// left to the caller.
func endDaemon(ctx context.Context, vm phonepath.VM, s Settings, report func(string)) error {
	d, err := findDaemon(vm)
	if d == nil || err != nil {
		return err
	}
	defer d.close()
	report("shutting it down")
	if err := d.signal(unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	bound := s.shutdownTimeout() + consoleTimeout + stopTimeout + killTimeout + 30*time.Second
	waiting, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err = d.wait(waiting, vm)
	if err == nil || ctx.Err() != nil {
		return err
	}
	report(fmt.Sprintf("its daemon, process %d, does not end: killing it", d.pid))
	if err := d.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	waiting, cancel = context.WithTimeout(ctx, killTimeout)
	defer cancel()
	return d.wait(waiting, vm)
}
