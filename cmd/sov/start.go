package main

import (
	"time"

	"github.com/spf13/cobra"
)

const (
	// startLimit is the timeout of a whole start: sov-runner waits for a booting phone, ten minutes
	// by default, and then for the machine.
	startLimit = 30 * time.Minute
	// stopLimit is the timeout of a clean shutdown. sov-runner has a timeout for each step and
	// finally kills the machine.
	stopLimit = 10 * time.Minute
)

// upFlags are the flags of commands that wait for a machine.
type upFlags struct {
	noWait  bool
	timeout time.Duration
}

func (f *upFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait until the machine is ready")
	c.Flags().DurationVar(&f.timeout, "timeout", 0, "how long to wait until the machine is ready (default: as in its recipe)")
}

func (f *upFlags) args() []string {
	var args []string
	if f.noWait {
		args = append(args, "--no-wait")
	}
	if f.timeout > 0 {
		args = append(args, "--timeout", f.timeout.String())
	}
	return args
}

func newStart() *cobra.Command {
	return phoneVerb{
		use:   "start",
		group: inOrder,
		short: "Start a machine on the phone and wait until it is ready",
		long: `Start a machine that ` + "`sov push`" + ` has installed, and wait until every service in it is ready. A
machine that already runs is not changed. Ctrl-C stops waiting; the machine keeps starting.`,
		example: `  sov start sql
  sov start sql --device R58M12345 --json
  sov start sql --all --no-wait`,
		asks:   "up",
		within: startLimit,
		up:     &upFlags{},
	}.command()
}
