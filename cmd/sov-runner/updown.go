package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

// progress returns a function that prints a line with the time since progress was called.
func progress(w io.Writer, name string) func(string) {
	start := time.Now()
	return func(line string) { fmt.Fprintf(w, "%s: %s (%.1f s)\n", name, line, time.Since(start).Seconds()) }
}

type upFlags struct {
	noWait  bool
	timeout time.Duration
	keys    bool
}

func (f *upFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait until the machine is ready")
	c.Flags().DurationVar(&f.timeout, "timeout", 0, "how long to wait until the machine is ready (default: as in its artifact)")
	c.Flags().BoolVar(&f.keys, "keys", false, "read the key of the data disk, which is not kept here, from the standard input: a JSON object of secrets")
}

func newUp(o *options) *cobra.Command {
	f := &upFlags{}
	c := &cobra.Command{
		Use:   "up NAME",
		Short: "Start a machine and wait until it is ready",
		Long: `Start a machine's daemon, which sets up its network, starts crosvm and supervises both, and wait
until every service of the guest is ready. A machine that already runs is not changed. Ctrl-C stops
waiting; the machine keeps starting.`,
		Example: "  sov-runner up sql\n  sov-runner up sql --no-wait\n  sov-runner up sql --timeout 2m --json",
		Args:    oneName,
		RunE:    func(c *cobra.Command, args []string) error { return up(c, o, f, args[0]) },
	}
	f.add(c)
	return c
}

func up(c *cobra.Command, o *options, f *upFlags, name string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	report := progress(c.ErrOrStderr(), name)
	options := daemon.UpOptions{Program: program, NoWait: f.noWait, Timeout: f.timeout, Report: report}
	if f.keys {
		if options.Keys, err = daemon.ReadKeys(c.InOrStdin()); err != nil {
			return err
		}
	}
	state, err := daemon.Up(c.Context(), o.layout(), name, options)
	if c.Context().Err() != nil {
		return fmt.Errorf("interrupted: %s keeps starting: `sov stop %s` stops it", name, name)
	}
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(c.OutOrStdout(), state)
	}
	if state.Phase == runnerapi.Ready {
		fmt.Fprintf(c.OutOrStdout(), "%s is ready at %s (slot %s, version %s), ready since %s\n", name, state.Network.Guest.Addr(), state.Slot, state.Version,
			state.ReadyAt.Local().Format(time.DateTime))
		return nil
	}
	fmt.Fprintf(c.OutOrStdout(), "%s is %s\n", name, state.Phase)
	return nil
}

func newDown(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "down NAME",
		Short: "Shut a machine down cleanly and remove its network",
		Long: `Ask the guest to shut down. If it does not answer in time, press its power button, then stop crosvm,
and finally kill it. Then restore the phone's network. A stopped machine is not changed, except that
the rest of a killed daemon is cleaned up.`,
		Example: "  sov-runner down sql",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			return down(c.Context(), c, o, args[0])
		},
	}
}

func down(ctx context.Context, c *cobra.Command, o *options, name string) error {
	if err := daemon.Down(ctx, o.layout(), name, progress(c.ErrOrStderr(), name)); err != nil {
		return err
	}
	if o.json {
		return printJSON(c.OutOrStdout(), map[string]string{"name": name, "phase": string(runnerapi.Down)})
	}
	fmt.Fprintf(c.OutOrStdout(), "%s is down\n", name)
	return nil
}

func newRestart(o *options) *cobra.Command {
	f := &upFlags{}
	c := &cobra.Command{
		Use:     "restart NAME",
		Short:   "Shut a machine down cleanly and start it again",
		Long:    "Shut a machine down cleanly and start its current version, which after an update is the new one.",
		Example: "  sov-runner restart sql",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			if err := daemon.Down(c.Context(), o.layout(), args[0], progress(c.ErrOrStderr(), args[0])); err != nil {
				return err
			}
			return up(c, o, f, args[0])
		},
	}
	f.add(c)
	return c
}

func newDaemon(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "daemon NAME",
		Short: "Supervise a machine in the foreground",
		Long: `Start a machine and supervise it until a signal (SIGTERM, SIGINT, SIGHUP) ends it: update its
network when the uplink changes, restart crosvm when it ends, limit its logs. up starts this
command, and so does the module's service.sh at boot. SIGUSR1 restarts a machine that stopped after
too many failures.`,
		Example: "  sov-runner daemon sql >>/data/sovereign/vms/sql/run/runner.log 2>&1 &",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			again := make(chan struct{}, 1)
			signals := make(chan os.Signal, 1)
			signal.Notify(signals, daemon.Again)
			defer signal.Stop(signals)
			go func() {
				for range signals {
					select {
					case again <- struct{}{}:
					default: // a notification is already pending
					}
				}
			}()
			d := &daemon.Daemon{Root: o.layout(), Name: args[0], Version: version(), Output: os.Stdout, Again: again}
			return d.Run(c.Context())
		},
	}
}
