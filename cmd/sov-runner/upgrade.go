package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newUpgrade(o *options) *cobra.Command {
	do := guestspec.DoUpgrade
	c := &cobra.Command{
		Use:   "upgrade NAME",
		Short: "Upgrade a machine's databases to its major version of PostgreSQL, for sov upgrade",
		Long: `Upgrade the databases of a running machine, whose version must have two major versions of
PostgreSQL, with pg_upgrade. PostgreSQL is stopped during the upgrade. The old databases are not
changed until the new ones are complete, and are kept until --do forget. With --json the guest's
events are printed as they arrive, one per line.`,
		Example: "  sov-runner upgrade sql\n  sov-runner upgrade sql --do checksums",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			report := progress(c.ErrOrStderr(), args[0])
			lines := json.NewEncoder(c.OutOrStdout())
			return daemon.Upgrade(c.Context(), o.layout(), args[0], do, func(e backup.Event) {
				switch {
				case o.json:
					lines.Encode(e) // the upgrade continues if the output was closed
				case e.Progress != "":
					report(e.Progress)
				case e.Upgraded != nil:
					fmt.Fprintln(c.OutOrStdout(), e.Upgraded)
				}
			})
		},
	}
	c.Flags().StringVar(&do, "do", do, "what to do: upgrade, checksums (add checksums to the databases), forget (remove the old databases)")
	return c
}
