package main

import (
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/host/inspect"
	"github.com/spf13/cobra"
)

func newInspectConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "config DIR|IMAGE [PART]",
		Short: "Print the machine's settings: recipe, vm, kernel, guest, services, postgres",
		Long: `Print the settings of a built machine. PART is one of

  recipe    the complete recipe, with what it extends (of an out folder)
  vm        vm.json: disks, memory, processors, network (of an out folder)
  kernel    the kernel's embedded configuration (of an out folder)
  guest     the configuration of sov-init
  services  the services that it supervises
  postgres  PostgreSQL's settings and access rules

Without PART, all parts except recipe and kernel are printed.`,
		Example: `  sov inspect config out/sql/arm64
  sov inspect config out/sql/arm64 postgres
  sov inspect config out/sql/arm64 recipe
  sov inspect config out/sql/arm64 kernel | grep SYSVIPC`,
		Args: cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return inspect.ConfigParts, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			if err := findBuilt(args[:1]); err != nil {
				return err
			}
			parts := args[1:]
			if len(parts) == 0 {
				if parts, err = inspect.UsualParts(args[0]); err != nil {
					return err
				}
			} else if !slices.Contains(inspect.ConfigParts, parts[0]) {
				return usagef("part %q: must be one of %s", parts[0], strings.Join(inspect.ConfigParts, ", "))
			}
			p := &printer{w: c.OutOrStdout()}
			for _, part := range parts {
				if len(args) == 1 {
					p.printf("== %s\n", part)
				}
				files, err := inspect.Config(args[0], part)
				if err != nil {
					return err
				}
				for _, f := range files {
					if f.Name != "" {
						p.printf("-- %s\n", f.Name)
					}
					p.printf("%s", f.Text)
				}
			}
			return p.err
		},
	}
}
