package main

import (
	"cmp"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/sovereign-sql/sov/internal/image/ext4"
)

func newInspectServices() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "services IMAGE",
		Short: "List the services with their rights and commands",
		Long: `List the services of the guest: their users, capabilities, writable directories, devices, published
ports, limits and programs; with --json also the names of their secrets. A service cannot gain
privileges or see the directories of another service.`,
		Example: "  sov inspect services sql",
		Args:    cobra.ExactArgs(1),
		RunE: withImage(func(c *cobra.Command, filesystem *ext4.FS, args []string) error {
			services, err := inspect.Services(filesystem)
			if err != nil {
				return err
			}
			return printResult(c.OutOrStdout(), asJSON, services, func(p *printer) {
				table := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
				defer table.Flush()
				inner := &printer{w: table}
				inner.printf("SERVICE\tUSER\tCAPABILITIES\tMAY WRITE\tDEVICES\tPORTS\tMEMORY\tPROCESSES\tCOMMAND\n")
				for _, s := range services {
					inner.printf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.User, listed(s.Capabilities), listed(s.Write), listed(s.Devices), listed(s.Ports),
						cmp.Or(s.Limits.Memory, "-"), cmp.Or(strings.TrimPrefix(strconv.Itoa(s.Limits.Processes), "0"), "-"), strings.Join(s.Command, " "))
				}
			})
		}),
	}
	jsonFlag(c, &asJSON)
	return c
}

// listed joins names for a table's column; "-" if there are none.
func listed(names []string) string { return cmp.Or(strings.Join(names, ","), "-") }
