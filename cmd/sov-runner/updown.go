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

// progress returns a reporter of lines with the time since it was made.
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
	c.Flags().BoolVar(&f.noWait, "no-wait", false, "return once the daemon runs")
	c.Flags().DurationVar(&f.timeout, "timeout", 0, "how long to wait for the machine to be ready (default: what its artifact says)")
	c.Flags().BoolVar(&f.keys, "keys", false, "read the key of the data disk, which is not kept here, from the standard input: a JSON object of secrets")
}

func newUp(o *options) *cobra.Command {
	f := &upFlags{}
	c := &cobra.Command{
		Use:   "up NAME",
		Short: "Start a machine and wait until it is ready",
		Long: `Start a machine's daemon, which makes its network, starts crosvm and stays to look after both, and wait until every
service of the guest is ready. Where it runs already, nothing is changed. Ctrl-C ends the waiting, not the machine.`,
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
		Short: "Shut a machine down in order and remove its network",
		Long: `Ask the guest to shut down, press its power button if it does not answer, stop crosvm if that does not help, and kill
it at last, each with a bound; then remove what was made in the phone's network. Where nothing runs, nothing happens; what
a killed daemon has left is put right.`,
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
		Short:   "Shut a machine down in order and start it again",
		Long:    "Shut a machine down in order and start what is installed now, which after an update is another slot.",
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
		Short: "Look after a machine in the foreground",
		Long: `Start a machine and look after it until a signal (SIGTERM, SIGINT, SIGHUP) tells to end it: its network is followed when the
uplink changes, crosvm started again when it ends, its logs kept bounded. This is what up starts, and what the module's
service.sh runs at boot. SIGUSR1 starts a machine afresh that was given up after too many failures.`,
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
					default: // told already
					}
				}
			}()
			d := &daemon.Daemon{Root: o.layout(), Name: args[0], Version: version(), Output: os.Stdout, Again: again}
			return d.Run(c.Context())
		},
	}
}
