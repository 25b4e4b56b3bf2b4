package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/databases"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/pipeline"
)

func newRestore() *cobra.Command {
	var f phoneFlags
	var wanted []string
	var yes bool
	c := &cobra.Command{
		Use:   "restore NAME FILE",
		Short: "Make the databases of a machine on the phone what they are in a backup",
		Long: `Make the databases of a machine that runs what they were when ` + "`sov backup`" + ` saved them to a file. The file is checked first.
Each database is restored under another name, and only when all of them are whole do they take the places of those that
are there, in one transaction; existing connections to those are closed. Until then, and if anything fails, everything is
as it was. It takes room for both on the data disk.

Databases that are not in the file stay. Roles that are missing are made with the passwords they had; those that are there
keep theirs. sov asks at the terminal before it replaces databases; --yes confirms in advance.`,
		Example: `  sov restore sql sql.zip
  sov restore sql sql.zip --database shop --yes`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			name, _, err := built.Machine(args[0])
			if err != nil {
				return err
			}
			var a *backup.Archive
			err = working(c, "check "+args[1], func(context.Context, *pipeline.Task) (err error) {
				a, err = databases.Open(args[1])
				return err
			})
			if err != nil {
				return err
			}
			defer a.Close()
			for _, d := range wanted {
				if !slices.Contains(a.Databases(), d) {
					return usagef("--database %s: must be one that %s holds: %s", d, args[1], shownList(a.Databases()))
				}
			}
			if len(wanted) == 0 {
				wanted = a.Databases()
			}
			if !yes {
				loss := fmt.Sprintf("This replaces the databases %s of %s on the phone by those of %s", shownList(wanted), name, a.Time.Local().Format(time.DateTime))
				if err := confirm(c, name, loss); err != nil {
					return err
				}
			}
			return f.each(c, func(ctx context.Context, s *fleet.Site) error { return restore(ctx, s, name, a, wanted) })
		},
	}
	f.add(c)
	c.Flags().StringArrayVar(&wanted, "database", nil, "restore only this one; may be repeated (default: all that the file holds)")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func restore(ctx context.Context, s *fleet.Site, name string, a *backup.Archive, wanted []string) error {
	did, err := databases.Restore(ctx, s, name, a, wanted, time.Now, transferred(s.ErrOut, "restore"),
		func(progress string) { fmt.Fprintln(s.ErrOut, "restore:", progress) })
	if err != nil {
		return err
	}
	return printResult(s.Out, s.AsJSON, did, func(p *printer) {
		for _, w := range did.Warnings {
			fmt.Fprintln(s.ErrOut, "warning:", w)
		}
		p.printf("restored: %s\n", shownList(did.Databases))
	})
}

func shownList(names []string) string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = shown(n)
	}
	return strings.Join(list, ", ")
}
