package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/phone/android"
	"github.com/sovereign-sql/sov/internal/phone/crosvm"
)

// An orphan is a crosvm whose daemon has died. A new daemon cannot adopt it, because only its
// parent gets its exit status, so it is shut down cleanly.
type orphan struct {
	pid      int
	life     string // identifies the process, see lifeOf
	proc     string
	socket   string
	requests string
	program  *crosvm.Program  // nil if crosvm's control socket cannot be used
	guest    *guestapi.Client // nil if the guest cannot be reached
}

// stopOrphans shuts down every crosvm of this machine. The caller holds the machine's lock, so no
// daemon is running.
func stopOrphans(ctx context.Context, vm phonepath.VM, s Settings, log func(string)) error {
	pids, err := crosvmsOf("/proc", vm)
	if err != nil {
		return fmt.Errorf("look for what an earlier daemon has left: %w", err)
	}
	// The kernel keeps the wake lock of a killed daemon. The error for a lock that is not held is
	// ignored.
	defer android.Phone{}.WakeUnlock(wakeLock(vm.Name))
	for _, pid := range pids {
		log(fmt.Sprintf("crosvm, process %d, has lost its daemon: shutting it down", pid))
		o := &orphan{pid: pid, life: lifeOf("/proc", pid), proc: "/proc", socket: vm.Socket(), requests: vm.Requests()}
		if _, err := os.Stat(o.socket); err != nil {
			o.socket = vm.OldSocket()
		}
		if program, err := crosvm.Find(ctx, s.Crosvm); err == nil {
			o.program = program
		}
		if state, err := readState(vm); err == nil && state.Network.Endpoint.IsValid() {
			if token := readToken(vm); token != "" {
				o.guest = guestapi.NewClient(state.Network.Endpoint, token)
			}
		}
		how, err := shutDown(ctx, o, s.shutdownTimeout(), log)
		if err != nil {
			return err
		}
		log(how)
	}
	return nil
}

var errUnknown = errors.New("it is not known how to reach it")

func (o *orphan) askGuest(ctx context.Context) error {
	if o.guest == nil {
		return fmt.Errorf("ask the guest: %w", errUnknown)
	}
	return o.guest.Shutdown(ctx)
}

func (o *orphan) askConsole() error { return askConsole(o.requests) }

func (o *orphan) stopCrosvm(ctx context.Context) error {
	if o.program == nil {
		return fmt.Errorf("stop crosvm: %w", errUnknown)
	}
	return o.program.Stop(ctx, o.socket)
}
