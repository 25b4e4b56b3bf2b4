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
	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newStatus(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "status NAME",
		Short:   "Say how a machine is",
		Long:    "Print the state of a machine, from its daemon, its processes and its guest.",
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

func printStatus(w io.Writer, s *health.Machine) {
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
		user := "root"
		if s.UID != 0 {
			user = fmt.Sprintf("user %d", s.UID)
		}
		row("crosvm", "process %d of %s, since %s", s.Crosvm, user, s.StartedAt.Local().Format(time.DateTime))
		if s.AsRoot != "" {
			row("", "it has root's rights, which it need not have: %s", s.AsRoot)
		}
		if s.InFile != "" {
			row("", "the secrets were in a file until the guest had read them, not in memory: %s", s.InFile)
		}
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
		for _, p := range n.Published {
			offered := ""
			if p.Forward {
				offered = fmt.Sprintf(", at the phone's own address port %d", p.Offered())
			}
			row("published", "%s: %d/%s%s", p, p.Port, p.Transport(), offered)
		}
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
		for _, service := range s.Services {
			row("", "%s", strings.TrimSuffix(service.Name+" is "+service.Summary()+": "+service.Reason, ": "))
		}
		if c := g.Clock; c != nil && c.Fault != "" {
			row("", "clock: %s", c.Fault)
		}
		for _, problem := range g.Problems {
			row("", "%s", problem)
		}
	}
	for _, d := range s.Disks {
		row("disk "+d.Name, "%s", diskLine(d))
	}
	if d := s.Database; d != nil && d.Ready {
		row("database", "PostgreSQL %s, %d connections", d.Version, d.Connections)
	}
	if d := s.Database; d != nil {
		for _, a := range d.Aside {
			row("warning", "settings of ALTER SYSTEM were put aside: %s", a)
		}
		for _, k := range d.Kept {
			row("", "the databases of PostgreSQL %s from before the upgrade are kept and take %d MiB: `sov upgrade %s --forget` removes them", k.Major, k.Size>>20, s.Name)
		}
		if len(d.Ignored) > 0 {
			row("warning", "ALTER SYSTEM has no effect on settings of the machine's own: %s", strings.Join(d.Ignored, ", "))
		}
	}
	if c := s.Certificate; c != nil {
		row("", "certificate of %s until %s", c.Subject, c.NotAfter.Local().Format(time.DateOnly))
	}
	if d := s.Database; d != nil && d.Public != nil && d.Public.Name != "" {
		port := uint16(5432)
		for _, address := range d.Tailnet {
			port = address.Port()
		}
		row("", "from the tailnet: psql 'host=%s port=%d sslmode=verify-full sslrootcert=system'", d.Public.Name, port)
	}
	if s.Tailnet != nil {
		row("tailnet", "%s", tailnetLine(s.Tailnet))
	}
	if b := s.Backup; b != nil {
		row("backup", "%s, %s", b.At.Local().Format(time.DateTime), b.Holds())
	} else if s.Database != nil || slices.ContainsFunc(s.Services, func(service guestapi.Service) bool { return service.Backup }) {
		row("backup", "none yet: `sov backup %s FILE` makes one", s.Name)
	}
	if p := s.Power; p != nil {
		charging := "discharging"
		if p.Charging {
			charging = "charging"
		}
		row("battery", "%d %%, %s", p.Battery, charging)
	}
	if a := s.Awake; a != nil {
		row("awake", "%s", awakeLine(a))
	}
	for _, z := range s.Thermal { // a phone has dozens of zones; users know only this one
		if z.Type == "battery" {
			row("thermal", "%s: %s, as the kernel shows it", z.Type, z.Temp)
		}
	}
	if p := s.Phone; p != nil {
		row("phone", "%s", phoneLine(p))
	}
}

// awakeLine reports how the phone is kept awake.
func awakeLine(a *runnerapi.Awake) string {
	switch {
	case a.Fault != "":
		return "the phone may sleep, and the machine with it: " + a.Fault
	case a.Held:
		return "the phone is kept from sleeping (" + a.Mode + ")"
	}
	return "the phone may sleep, and the machine with it, until it is being charged"
}

// phoneLine returns the phone's Android version, if it has one, and its kernel.
func phoneLine(p *health.Phone) string {
	line := "Linux " + p.Kernel
	if p.Android != "" {
		line = "Android " + p.Android + ", kernel " + p.Kernel
	}
	for _, part := range append(p.RootManager, p.Hypervisor) {
		if part != "" {
			line += ", " + part
		}
	}
	return line
}

// diskLine reports a disk's free space, and its fault or warning.
func diskLine(d health.Disk) string {
	switch {
	case d.Fault != "":
		return d.Fault
	case d.Warning != "":
		return d.Warning
	}
	const mib = 1 << 20
	text := fmt.Sprintf("takes %d MiB of the phone", d.Allocated/mib)
	if d.Encryption != "" {
		text += ", encrypted (" + d.Encryption + ")"
	}
	if d.Size > 0 {
		text = fmt.Sprintf("%d of %d MiB free, ", d.Free/mib, d.Size/mib) + text
	}
	return text
}

// tailnetLine reports the guest's tailnet state, its hostname and addresses, and its fault.
func tailnetLine(t *guestapi.Tailnet) string {
	line := t.State
	if len(t.Addresses) > 0 {
		line += ", " + t.Hostname + " at " + strings.Join(t.Addresses, " ")
	}
	for _, text := range []string{t.Fault, t.Warning} {
		if text != "" {
			line += ": " + text
		}
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
				return &usageError{fmt.Errorf("--lines %d: must be 0 or more", l.Lines)}
			}
			ctx, cancel := whileRead(c.Context(), os.Stdout)
			defer cancel()
			return daemon.Logs(ctx, o.layout(), args[0], l, c.OutOrStdout())
		},
	}
	c.Flags().BoolVarP(&l.Follow, "follow", "f", false, "print new lines as they are written")
	c.Flags().IntVarP(&l.Lines, "lines", "n", 50, "lines from the end")
	c.Flags().StringVar(&l.Service, "service", "", "the log of a `service` of the guest, such as postgres, instead of the console")
	c.Flags().BoolVar(&l.Runner, "runner", false, "the runner's own log instead of the guest's console")
	c.MarkFlagsMutuallyExclusive("service", "runner")
	return c
}

func newVersion(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the program's version",
		Args:  cobra.MaximumNArgs(1), // a name is accepted, as by the other commands, and ignored
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
