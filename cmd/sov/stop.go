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
		short: "Shut a machine down in order, on the phone or here",
		long: `Shut a machine down in order: its services are stopped, PostgreSQL with a checkpoint, its disks unmounted, and the phone's
network is as it was before. Where nothing runs, nothing happens. It is started again by ` + "`sov start`" + `, and when the phone
restarts.

With --local it is the machine that ` + "`sov run`" + ` runs on this computer, in background or not.`,
		example: "  sov stop sql\n  sov stop sql --all\n  sov stop sql --local",
		asks:    "down",
		within:  stopLimit,
	}.command(), stopHere)
}

// stopHere shuts down a machine that runs on this computer, whichever sov runs it.
func stopHere(c *cobra.Command, r *localvm.Running) error {
	began := time.Now()
	fmt.Fprintf(c.ErrOrStderr(), "stop: %s on this computer, process %d\n", r.Name, r.PID)
	if err := r.Stop(c.Context(), stopBound+unitReserve); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "stop: shut down in %.1f s\n", time.Since(began).Seconds())
	return nil
}
