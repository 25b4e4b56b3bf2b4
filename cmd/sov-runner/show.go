package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "status NAME",
		Short:   "Say how a machine is",
		Long:    "Say how a machine is, as its daemon, its processes and its guest tell.",
		Example: "  sov-runner status sql\n  sov-runner status sql --json",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := daemon.Status(c.Context(), o.layout(), args[0])
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(c.OutOrStdout(), s)
			}
			printStatus(c.OutOrStdout(), s)
			return nil
		},
	}
}

func printStatus(w io.Writer, s *runnerapi.Status) {
	row := func(key, format string, args ...any) { fmt.Fprintf(w, "%-10s %s\n", key, fmt.Sprintf(format, args...)) }
	since := ""
	if !s.Since.IsZero() {
		since = " since " + s.Since.Local().Format(time.DateTime)
	}
	row(s.Name, "%s%s", s.Phase, since)
	if s.Reason != "" {
		row("reason", "%s", s.Reason)
	}
	for _, slot := range s.Slots {
		if slot.State != runnerapi.SlotEmpty {
			row("slot "+slot.Slot, "%s", describeSlot(slot, s.Slot == slot.Slot && s.CrosvmAlive))
		}
	}
	if s.DaemonAlive {
		row("daemon", "process %d, %d restarts of crosvm", s.Daemon, s.Restarts)
	}
	if s.CrosvmAlive {
		row("crosvm", "process %d, since %s", s.Crosvm, s.StartedAt.Local().Format(time.DateTime))
	}
	if s.LastExit != nil {
		row("last end", "%s, %s", s.LastExit.At.Local().Format(time.DateTime), s.LastExit.Text)
	}
	if n := s.Network; n.TAP != "" {
		uplink := n.Uplink
		if uplink == "" {
			uplink = "none"
		}
		row("network", "%s, host %s, guest %s, uplink %s, IPv4 only", n.TAP, n.Host, n.Guest.Addr(), uplink)
		if n.Reason != "" {
			row("routing", "%s: %s", n.Routing, n.Reason)
		}
		if n.Fault != "" {
			row("", "%s", n.Fault)
		}
	}
	for _, warning := range append(slices.Clone(s.Network.Warnings), s.Warnings...) {
		row("warning", "%s", warning)
	}
	if s.GuestFault != "" {
		row("guest", "%s", s.GuestFault)
	}
	if g := s.Guest; g != nil {
		row("guest", "%s version %s, up for %.0f s", g.Image, g.Version, g.Uptime)
		for _, service := range g.Services {
			reason := ""
			if service.Reason != "" {
				reason = ": " + service.Reason
			}
			row("", "%s is %s%s", service.Name, service.State, reason)
		}
		if c := g.Clock; c != nil && c.Fault != "" {
			row("", "clock: %s", c.Fault)
		}
		if g.Data.Warning != "" {
			row("", "%s", g.Data.Warning)
		}
		for _, problem := range g.Problems {
			row("", "%s", problem)
		}
		if g.Tailnet != nil {
			row("tailnet", "%s", tailnetLine(g.Tailnet))
		}
	}
}

// tailnetLine is how the guest is on its tailnet: its state, who it is there, and what keeps it away.
func tailnetLine(t *guestapi.Tailnet) string {
	line := t.State
	if len(t.Addresses) > 0 {
		line += ", " + t.Hostname + " at " + strings.Join(t.Addresses, " ")
	}
	if t.Fault != "" {
		line += ": " + t.Fault
	}
	return line
}

func newLogs(o *options) *cobra.Command {
	var l daemon.LogOptions
	c := &cobra.Command{
		Use:     "logs NAME",
		Short:   "Show a machine's console, one of its services' logs, or the runner's own",
		Example: "  sov-runner logs sql -f\n  sov-runner logs sql --service postgres -n 200\n  sov-runner logs sql --runner -n 100",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			if l.Lines < 0 {
				return &usageError{fmt.Errorf("--lines %d is less than none", l.Lines)}
			}
			ctx, cancel := whileRead(c.Context(), os.Stdout)
			defer cancel()
			return daemon.Logs(ctx, o.layout(), args[0], l, c.OutOrStdout())
		},
	}
	c.Flags().BoolVarP(&l.Follow, "follow", "f", false, "go on with what is written")
	c.Flags().IntVarP(&l.Lines, "lines", "n", 50, "lines from the end")
	c.Flags().StringVar(&l.Service, "service", "", "the log of a `service` of the guest, such as postgres, in place of the console")
	c.Flags().BoolVar(&l.Runner, "runner", false, "the runner's own log in place of the guest's console")
	c.MarkFlagsMutuallyExclusive("service", "runner")
	return c
}

func newVersion(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the program's version",
		Args:  cobra.MaximumNArgs(1), // a name is taken, as by the other commands, and means nothing
		RunE: func(c *cobra.Command, _ []string) error {
			if o.json {
				return printJSON(c.OutOrStdout(), runnerapi.Version{Version: version(), Release: release, Arch: runtime.GOARCH, StateFormat: runnerapi.Format})
			}
			name := version()
			if release != "" {
				name = release + " " + name
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "sov-runner %s %s/%s\n", name, runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
