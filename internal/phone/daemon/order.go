package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
)

// awaitOthers waits until the machines of the group that this one is to be started after are ready.
// It waits for those that are on their way, as at the phone's boot, where all daemons wait for
// Android first, and for each no longer than its start may take: the programs of this machine have
// to bear that another machine is away anyway. It returns an error only when ctx ends.
func (d *Daemon) awaitOthers(ctx context.Context) error {
	a, err := loadArtifact(d.Root, d.settings, d.vm)
	if err != nil {
		return nil // the start says so
	}
	for _, name := range a.spec.Network.After {
		err := d.awaitMachine(ctx, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			d.log(fmt.Sprintf("it is started without waiting for %s: %v", name, err))
		}
	}
	d.state.change(func(s *runnerapi.State) { s.Reason, s.WaitsFor = "", "" })
	return nil
}

// awaitMachine waits for one machine. The error says why it does not.
func (d *Daemon) awaitMachine(ctx context.Context, name string) error {
	vm, err := d.Root.VM(name)
	if err != nil {
		return err
	}
	other, err := loadArtifact(d.Root, d.settings, vm)
	if err != nil {
		return err
	}
	limit := other.spec.Ready.Timeout()
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for said := false; ; said = true {
		pid, err := lockHolder(vm)
		if err != nil {
			return err
		}
		if pid == 0 {
			return fmt.Errorf("%s does not run", name)
		}
		state, err := readState(vm)
		switch current := err == nil && state.Daemon == pid; { // else the daemon has just begun
		case current && state.Phase == runnerapi.Ready:
			return nil
		case current && rests(state.Phase):
			return fmt.Errorf("it is %s", describeState(state))
		}
		if !said {
			d.state.change(func(s *runnerapi.State) { s.Reason, s.WaitsFor = "waits for "+name, name })
			d.log("waits for " + name)
		}
		select {
		case <-bounded.Done():
			return fmt.Errorf("it is not ready within %v", limit)
		case <-time.After(statePoll):
		}
	}
}
