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

// ErrNotReady is wrapped by the error of Up if the machine did not become ready. The machine's
// daemon continues.
var ErrNotReady = errors.New("the machine is not ready")

// Again is the signal that tells a daemon to restart a machine that it has given up, or that is
// off.
const Again = unix.SIGUSR1

// UpOptions configure Up.
type UpOptions struct {
	Program string        // this program, to be run as the daemon
	NoWait  bool          // return when the daemon runs
	Timeout time.Duration // for the machine to be ready; 0: that of its artifact
	Report  func(string)  // called with progress lines; may be nil
	// Keys are for a machine whose data disk's key is not stored on this phone: a JSON object of
	// the secrets guestspec.SecretDataKey and, during a change, SecretOldDataKey.
	Keys []byte

	// fallback returns the start timeout of the version to roll back to. If it is nil, Timeout is
	// the caller's total limit; otherwise it is the limit of each start of a version on trial.
	fallback func() time.Duration
}

// Up starts the machine's daemon if it is not running, and waits until the machine is ready. If ctx
// ends, the machine continues to start.
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
		// The daemon rolls back to the other version if that is intact.
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

// errVanished says that a running daemon has ended meanwhile: it was killed or told to end.
var errVanished = errors.New("its daemon has ended")

// startDaemon starts a daemon. A running daemon is told to try again if it has given up. The
// channel is closed when the started daemon ends; it is nil if a daemon was already running.
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
	// In a new session and without the caller's terminal or pipes, so that an adb shell can return,
	// and its hang-up does not end the daemon.
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

// rests reports whether a daemon in this phase waits for the user.
func rests(p runnerapi.Phase) bool {
	return p == runnerapi.Failed || p == runnerapi.CrashLoop || p == runnerapi.Off || p == runnerapi.LowBattery || p == runnerapi.Locked
}

// awaitChange waits until the daemon has left the phase of a state, or has ended.
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

// awaitReady follows the daemon's state until the machine is ready or has failed.
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
		current := pid != 0 && state.Daemon == pid // otherwise an earlier daemon has left it
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
				deadline = time.Now().Add(o.Timeout) // the daemon limits the start
			case rolledBack(state, begun):
				deadline = time.Now().Add(o.fallback())
				o.fallback = nil
			}
			ready := state.Phase == runnerapi.Ready && lifeOf("/proc", state.Crosvm) != "" // it may have been killed just now
			switch {
			case !o.NoWait && ready && rolledBack(state, begun):
				return *state, &RolledBackError{state.RollBack}
			case o.NoWait || ready:
				return *state, nil
			case state.Phase == runnerapi.Locked && o.Keys != nil: // the daemon has the keys and will use them
			case rests(state.Phase), state.Stuck && !state.Trial: // the daemon ends a trial
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

// A RolledBackError says that a version did not work and the previous one runs again.
type RolledBackError struct{ *runnerapi.RollBack }

func (e *RolledBackError) Error() string {
	return fmt.Sprintf("version %s in slot %s does not work: %s. Slot %s is what runs again, with the data untouched", e.Version, e.From, e.Reason, e.To)
}

// rolledBack reports whether the daemon rolled back to another version after a time.
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

// lastOf returns the last line of the first non-empty log.
func lastOf(paths ...string) string {
	for _, path := range paths {
		if lines, err := tail(path, 1); err == nil && len(lines) > 0 {
			return strings.TrimSpace(lines[0])
		}
	}
	return "nothing"
}

// describeState describes a machine's state in a line.
func describeState(s *runnerapi.State) string {
	text := string(s.Phase)
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

// Down shuts the machine down cleanly and removes it from the phone's network, also after any of
// its processes was killed. It is not an error if nothing is running.
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

// down ends a machine. pass is called with the error of a step; down returns its result, or
// continues with the next step if that is nil.
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
	// A daemon that ended normally has cleaned up; a killed one may have left something.
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

// stepNetwork is the name of down's network step.
const stepNetwork = "the machine's place in the phone's network"

// leaveNetwork removes a machine that is not running from the phone's network.
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

// endDaemon tells the daemon to end and waits for it. It kills a daemon that does not end; then the
// caller must clean up.
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
