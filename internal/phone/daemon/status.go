package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/phonepath"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/network"
	"github.com/sovereign-sql/sov/internal/phone/slots"
)

// guestPatience bounds a question to the guest.
const guestPatience = guestapi.StatusTime + 3*time.Second

// Status tells how the machine is, as its daemon and its guest say, and whether the processes are there.
func Status(ctx context.Context, root phonepath.Root, name string) (*runnerapi.Status, error) {
	vm, err := root.VM(name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(vm.Dir()); err != nil {
		return nil, fmt.Errorf("status of %s: it is not installed: %w", name, err)
	}
	s, err := lookAt(ctx, vm)
	if err == nil && s.GuestFault != "" {
		// A crosvm that was killed a moment before is seen no more: a guest is not silent that has gone meanwhile.
		if pids, gone := crosvmsOf("/proc", vm.Socket()); gone == nil && len(pids) == 0 {
			s, err = lookAt(ctx, vm)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", name, err)
	}
	if !s.CrosvmAlive {
		s.Network.Warnings = foresee(root, vm)
	}
	return s, nil
}

// foresee is what the version that is started next would take from others on the phone as it is connected now; nothing where
// that cannot be told.
func foresee(root phonepath.Root, vm phonepath.VM) []string {
	settings, err := loadSettings(root)
	if err != nil {
		return nil
	}
	a, err := loadArtifact(root, settings, vm)
	if err != nil {
		return nil
	}
	settings.apply(a.spec)
	warnings, err := network.Foresee(a.network(root, settings, func(string) {}))
	if err != nil {
		return nil
	}
	return warnings
}

// lookAt looks at the machine's files and processes, and asks its guest.
func lookAt(ctx context.Context, vm phonepath.VM) (*runnerapi.Status, error) {
	state, err := readState(vm)
	if err != nil {
		return nil, err
	}
	s := &runnerapi.Status{State: *state, Slots: slots.List(vm)}
	holder, err := lockHolder(vm)
	if err != nil {
		return nil, err
	}
	s.DaemonAlive = holder != 0 && holder == state.Daemon
	pids, err := crosvmsOf("/proc", vm.Socket())
	if err != nil {
		return nil, err
	}
	s.CrosvmAlive = len(pids) > 0
	correct(s, pids)
	if token := readToken(vm); s.CrosvmAlive && token != "" && state.Network.Endpoint.IsValid() {
		asking, cancel := context.WithTimeout(ctx, guestPatience)
		defer cancel()
		if s.Guest, err = guestapi.NewClient(state.Network.Endpoint, token).Status(asking); err != nil {
			s.GuestFault = err.Error()
		}
	}
	return s, nil
}

// correct makes a state that a killed daemon has left say what is the case.
func correct(s *runnerapi.Status, pids []int) {
	switch {
	case s.DaemonAlive || s.Phase == runnerapi.Down && !s.CrosvmAlive:
	case s.CrosvmAlive:
		s.Crosvm = pids[0]
		s.Reason = fmt.Sprintf("its daemon was killed, crosvm (process %d) lives on until Android kills it: start it again, which shuts that one down in order", pids[0])
		s.Phase = runnerapi.NotReady
	default:
		s.Reason = "its daemon was killed, or the phone was restarted"
		s.Phase, s.Daemon, s.Crosvm = runnerapi.Down, 0, 0
	}
}
