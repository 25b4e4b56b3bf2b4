package localvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// pollInterval is the shortest pause between two requests for the guest's status.
const pollInterval = 50 * time.Millisecond

// Timeouts of one status request while the guest starts. QEMU's network accepts a connection before
// the guest's interface is up, and retransmits lost packets only after seconds: a new connection is
// faster. A guest under load may need longer to answer, so the timeout grows with each request.
const (
	firstPatience = 200 * time.Millisecond
	lastPatience  = 10 * time.Second
)

// ErrNotReady is wrapped by the errors of Ready.
var ErrNotReady = errors.New("the machine did not become ready")

// emulationFactor multiplies the timeout in vm.json where the processor is emulated: the timeout is
// for a phone, which runs a guest about ten times faster.
const emulationFactor = 4

// ReadyTimeout returns how long Ready waits for a machine. kvm is that of its Options.
func ReadyTimeout(spec *vmspec.Spec, kvm bool) time.Duration {
	if kvm {
		return spec.Ready.Timeout()
	}
	return emulationFactor * spec.Ready.Timeout()
}

// Ready waits until every service of the guest is ready. It fails when the machine ends, when a
// service reports that it needs attention, and after the timeout, see ReadyTimeout, or that of ctx.
// report, if not nil, is called with each status of the guest.
func (vm *VM) Ready(ctx context.Context, report func(*guestapi.Status)) error {
	timeout := ReadyTimeout(vm.spec, vm.kvm)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last *guestapi.Status
	for patience := firstPatience; ; patience = min(patience*3/2, lastPatience) {
		pause, asked := pollInterval, time.Now()
		if status, err := vm.ask(ctx, patience); err == nil {
			last, pause = status, guestapi.Pause(pollInterval, time.Since(asked))
			if report != nil {
				report(status)
			}
			if status.Ready {
				return vm.trust(status)
			}
			if hopeless := failed(status); hopeless != "" {
				return fmt.Errorf("%w: %s", ErrNotReady, hopeless)
			}
		}
		select {
		case <-time.After(pause):
		case <-vm.Done():
			return errors.Join(fmt.Errorf("%w: it ended", ErrNotReady), vm.Wait())
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return fmt.Errorf("%w within %v: %s", ErrNotReady, timeout, vm.pending(last))
		}
	}
}

// ask requests the guest's status with a timeout.
func (vm *VM) ask(ctx context.Context, patience time.Duration) (*guestapi.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return vm.status.Status(ctx)
}

// failed describes services that will not become ready without intervention: they need attention,
// or they exit repeatedly.
func failed(status *guestapi.Status) string {
	return status.Describe(guestapi.StateFailed, guestapi.StateLooping)
}

func (vm *VM) pending(status *guestapi.Status) string {
	if vm.full.Load() {
		return vm.fullDisk()
	}
	if status == nil {
		return "its endpoint never answered; the console log says how far it came"
	}
	return Unready(status)
}

// Unready describes the services that are not ready, and why.
func Unready(s *guestapi.Status) string {
	return s.Describe(guestapi.StateWaiting, guestapi.StateStarting, guestapi.StateBackoff, guestapi.StateLooping, guestapi.StateFailed, guestapi.StateStopped)
}

// Shutdown requests a clean shutdown and waits for it, at most bound; then it kills the machine and
// returns an error. It may be called concurrently, and after the machine has ended. A machine that
// is paused because of a full disk is killed at once.
func (vm *VM) Shutdown(ctx context.Context, bound time.Duration) error {
	if vm.full.Load() {
		return errors.Join(fmt.Errorf("orderly shutdown: %s, so it was switched off as by a power cut: what was committed is there at its next start", vm.fullDisk()), vm.Kill())
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if err := vm.askToStop(ctx); err != nil {
		killed := vm.Kill()
		if vm.Wait() == nil {
			return nil // it was shutting down already, and so did not answer
		}
		return errors.Join(fmt.Errorf("orderly shutdown: %w: the machine was switched off", err), killed)
	}
	select {
	case <-vm.Done():
		return vm.Wait()
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("the machine did not power off within %v: it was switched off", bound), vm.Kill())
	}
}

// askToStop requests a shutdown through the status endpoint, and presses the power button if the
// guest does not answer there.
func (vm *VM) askToStop(ctx context.Context) error {
	select {
	case <-vm.Done():
		return nil
	default:
	}
	refused := vm.status.Shutdown(ctx)
	if refused == nil {
		return nil
	}
	if err := vm.machine.PowerButton(ctx); err != nil {
		return errors.Join(refused, err)
	}
	return nil
}
