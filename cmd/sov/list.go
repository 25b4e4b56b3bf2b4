package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/health"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/terminal"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// listReport is what `sov list --json` prints.
type listReport struct {
	Built  []built.Artifact  `json:"built"`
	Phones []fleet.Inventory `json:"phones"`
}

func newList() *cobra.Command {
	var f phoneFlags
	var out string
	c := &cobra.Command{
		Use:   "list",
		Short: "List the machines that are built here and those on each phone",
		Long: `List the machines that sov build has written to the out folder, and the machines on each phone that is attached: version,
state, the space they take, and the last backup. --device asks other phones, by ssh for instance.`,
		Example: "  sov list\n  sov list --device ssh:root@phone\n  sov list --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			phones, err := f.reachable(c)
			if err != nil {
				return err
			}
			report := listReport{Built: built.List(out), Phones: fleet.List(c.Context(), phones)}
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
	fmt.Fprintln(w, "MACHINE\tWHERE\tVERSION\tSTATE\tSIZE\tLAST BACKUP")
	for _, a := range r.Built {
		fmt.Fprintf(w, "%s\t%s\t%s\tbuilt\t%s\t\n", a.Name, a.Dir, a.Version, progress.FormatSize(a.Size))
	}
	for _, phone := range r.Phones {
		for _, m := range phone.Machines {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", terminal.Harmless(m.Name), phone.Device, terminal.Harmless(installedVersion(m)), terminal.Harmless(string(m.Phase)), dataSize(m), backupTime(m))
		}
		if phone.Error != "" {
			fmt.Fprintf(w, "?\t%s\t\t%s\t\t\n", phone.Device, phone.Error)
		}
	}
	_ = w.Flush() // into memory
	if strings.Count(text.String(), "\n") == 1 {
		p.printf("no machine is built in this folder, and none is on a phone that is attached: sov build sql\n")
		return
	}
	p.printf("%s", text.String())
}

// installedVersion is the version that starts next.
func installedVersion(m *health.Machine) string {
	for _, slot := range m.Slots {
		if slot.Current {
			return slot.Version
		}
	}
	return "-"
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
	return m.Backup.At.Local().Format(time.DateTime)
}
