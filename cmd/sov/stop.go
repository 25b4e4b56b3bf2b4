package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/localvm"
)

func newStop() *cobra.Command {
	return orLocal(phoneVerb{
		use:   "stop",
		group: backward,
		short: "Shut a machine down cleanly, on the phone or here",
		long: `Shut a machine down cleanly: stop its services, PostgreSQL with a checkpoint, unmount its disks, and
restore the phone's network. A stopped machine is not changed. The machine starts again
with ` + "`sov start`" + ` and when the phone restarts.

With --local, stop the machine that ` + "`sov run`" + ` runs on this computer, in the background or not.`,
		example: "  sov stop sql\n  sov stop sql --all\n  sov stop sql --local",
		asks:    "down",
		within:  stopLimit,
	}.command(), stopHere)
}

// stopHere shuts down a machine that any sov process runs on this computer.
func stopHere(c *cobra.Command, r *localvm.Running) error {
	began := time.Now()
	fmt.Fprintf(c.ErrOrStderr(), "stop: %s on this computer, process %d\n", r.Name, r.PID)
	if err := r.Stop(c.Context(), stopBound+unitReserve); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "stop: shut down in %.1f s\n", time.Since(began).Seconds())
	return nil
}
