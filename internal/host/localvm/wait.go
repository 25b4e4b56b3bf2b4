package localvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
)

// pollInterval is how often the guest is asked whether it is ready. Each question costs a
// connection through QEMU's network, a fraction of a millisecond.
const pollInterval = 50 * time.Millisecond

// How long one question may take while the guest starts. QEMU's network accepts a connection before
// the guest's interface is up, and repeats what got lost only after seconds: a new connection is
// sooner there. A guest under load may need longer to answer, so patience grows with each question.
const (
	firstPatience = 200 * time.Millisecond
	lastPatience  = 10 * time.Second
)

// ErrNotReady is wrapped by the errors of Ready.
var ErrNotReady = errors.New("the machine did not become ready")

// Ready waits until every service of the guest is ready. It gives up when the machine ends, when a
// service says that a person has to look, and after the time that vm.json allows (or ctx does).
// report, if not nil, is called with each answer of the guest.
func (vm *VM) Ready(ctx context.Context, report func(*guestapi.Status)) error {
	ctx, cancel := context.WithTimeout(ctx, vm.spec.Ready.Timeout())
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var last *guestapi.Status
	for patience := firstPatience; ; patience = min(patience*3/2, lastPatience) {
		if status, err := vm.ask(ctx, patience); err == nil {
			last = status
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
		case <-tick.C:
		case <-vm.Done():
			return errors.Join(fmt.Errorf("%w: it ended", ErrNotReady), vm.Wait())
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return fmt.Errorf("%w within %v: %s", ErrNotReady, vm.spec.Ready.Timeout(), vm.pending(last))
		}
	}
}

// ask asks the guest how it is, and gives up after a while.
func (vm *VM) ask(ctx context.Context, patience time.Duration) (*guestapi.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return vm.status.Status(ctx)
}

// failed says why services will not come up by themselves: they need a person, or end again and
// again.
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

// Unready says how those services are that are not ready, and why.
func Unready(s *guestapi.Status) string {
	return s.Describe(guestapi.StateWaiting, guestapi.StateStarting, guestapi.StateBackoff, guestapi.StateLooping, guestapi.StateFailed, guestapi.StateStopped)
}

// Shutdown asks the guest for an orderly end and waits for it, for at most bound; then it pulls the
// plug and says so. Several calls at once, or of a machine that has ended, are fine. A machine that
// is paused for want of room is switched off at once.
func (vm *VM) Shutdown(ctx context.Context, bound time.Duration) error {
	if vm.full.Load() {
		return errors.Join(fmt.Errorf("orderly shutdown: %s, so it was switched off as by a power cut: what was committed is there at its next start", vm.fullDisk()), vm.Kill())
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if err := vm.askToStop(ctx); err != nil {
		killed := vm.Kill()
		if vm.Wait() == nil {
			return nil // it was on its way off already, and so did not answer
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

// askToStop asks through the endpoint, and presses the power button of a guest that does not answer
// there.
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
