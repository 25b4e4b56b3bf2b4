package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/contract/runnerapi"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/terminal"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// listReport is the output of `sov list --json`.
type listReport struct {
	Built  []built.Artifact  `json:"built"`
	Here   []localMachine    `json:"here"` // running on this computer
	Phones []fleet.Inventory `json:"phones"`
}

func newList() *cobra.Command {
	var f phoneFlags
	var out string
	c := &cobra.Command{
		Use:   "list",
		Short: "List the machines built here and the machines on each phone",
		Long: `List the machines in the out folder, those that sov run runs on this computer, and those on each
attached phone: version, state, size, signer, and the time and content of the last backup. --device
adds other phones, such as one that is reached over ssh.`,
		Example: "  sov list\n  sov list --device ssh:root@phone\n  sov list --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			phones, err := f.reachable(c)
			if err != nil {
				return err
			}
			here, err := runningHere(c.Context())
			if err != nil {
				return err
			}
			report := listReport{Built: built.List(out), Here: here}
			err = working(c, "ask the phones", func(ctx context.Context, _ *pipeline.Task) error {
				report.Phones = fleet.List(ctx, phones)
				return nil
			})
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), f.asJSON, report, func(p *printer) { printList(p, report) })
		},
	}
	f.addDevice(c)
	jsonFlag(c, &f.asJSON)
	c.Flags().StringVarP(&out, "out", "o", "out", "folder that sov build wrote to")
	return c
}

func printList(p *printer, r listReport) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MACHINE\tWHERE\tVERSION\tSTATE\tSIZE\tLAST BACKUP\tSIGNED BY")
	for _, a := range r.Built {
		fmt.Fprintf(w, "%s\t%s\t%s\tbuilt\t%s\t\t%s\n", a.Name, a.Dir, a.Version, progress.FormatSize(a.Size), signer(a.SignedBy, a.Serial))
	}
	for _, m := range r.Here {
		fmt.Fprintf(w, "%s\tthis computer\t%s\t%s\t%s\t\n", m.Name, terminal.Harmless(m.Version), m.State, progress.FormatSize(m.Size))
	}
	for _, phone := range r.Phones {
		for _, m := range phone.Machines {
			current := currentSlot(m)
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", terminal.Harmless(m.Name), phone.Device, terminal.Harmless(cmp.Or(current.Version, "-")),
				terminal.Harmless(string(m.Phase)), dataSize(m), backupTime(m), terminal.Harmless(signer(current.SignedBy, current.Serial)))
		}
		if phone.Error != "" {
			fmt.Fprintf(w, "?\t%s\t\t%s\t\t\t\n", phone.Device, phone.Error)
		}
	}
	_ = w.Flush() // writing to memory does not fail
	if strings.Count(text.String(), "\n") == 1 {
		p.printf("no machine is built in this folder, and none is on a phone that is attached: `sov build sql` builds one\n")
		return
	}
	p.printf("%s", text.String())
}

// currentSlot returns the slot that starts next.
func currentSlot(m *health.Machine) runnerapi.Slot {
	for _, slot := range m.Slots {
		if slot.Current {
			return slot
		}
	}
	return runnerapi.Slot{}
}

// signer describes a signature by its key and serial; "-" without a key.
func signer(key string, serial int64) string {
	if key == "" {
		return "-"
	}
	return fmt.Sprintf("%.16s…, serial %d", key, serial)
}

func dataSize(m *health.Machine) string {
	var size int64
	for _, d := range m.Disks {
		size += d.Allocated
	}
	if size == 0 {
		return "-"
	}
	return progress.FormatSize(size)
}

func backupTime(m *health.Machine) string {
	if m.Backup == nil {
		return "never"
	}
	return m.Backup.At.Local().Format(time.DateTime) + ", " + terminal.Harmless(m.Backup.Holds())
}
