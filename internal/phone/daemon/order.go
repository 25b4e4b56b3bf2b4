package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
)

// awaitOthers waits until the machines of the group that must start before this one are ready. It
// waits only for machines that are starting, as at the phone's boot, and for each at most its start
// timeout: this machine's programs must tolerate the absence of other machines anyway. It returns
// an error only when ctx ends.
func (d *Daemon) awaitOthers(ctx context.Context) error {
	a, err := loadArtifact(d.Root, d.settings, d.vm)
	if err != nil {
		return nil // the start reports the error
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

// awaitMachine waits for one machine. The error says why it stopped waiting.
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
		switch current := err == nil && state.Daemon == pid; { // otherwise the daemon has just started
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
