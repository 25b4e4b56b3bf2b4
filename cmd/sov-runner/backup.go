package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/phone/daemon"
)

func newBackup(o *options) *cobra.Command {
	var saved, identity bool
	c := &cobra.Command{
		Use:   "backup NAME",
		Short: "Write a machine's databases and the data of its services to standard output, for sov backup",
		Long: `Write all roles and databases of a machine that runs, and the data of its services that have a backup, to standard output,
as a stream that "sov backup" makes an archive of. Its end says whether it is whole.`,
		Example: "  sov-runner backup sql >sql.stream",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			if saved {
				return daemon.NoteBackup(o.layout(), args[0], os.Stdin)
			}
			ctx, cancel := whileRead(c.Context(), os.Stdout)
			defer cancel()
			return daemon.Backup(ctx, o.layout(), args[0], os.Stdout, identity)
		},
	}
	c.Flags().BoolVar(&identity, "identity", false, "save its node on its tailnet too")
	c.Flags().BoolVar(&saved, "saved", false, "write nothing: record the backup that standard input describes, for status")
	return c
}

func newRestore(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "restore NAME",
		Short: "Make a machine's databases and services' data what they are in a stream on standard input",
		Long: `Make the databases of a machine that runs, and the data of its services, what they are in a stream of "sov-runner backup" or
"sov restore". Nothing is replaced before all of it has come and was restored. With --json the guest's events are printed
as they come, a line each.`,
		Example: "  sov-runner restore sql <sql.stream",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			report := progress(c.ErrOrStderr(), args[0])
			lines := json.NewEncoder(c.OutOrStdout())
			return daemon.Restore(c.Context(), o.layout(), args[0], os.Stdin, func(e backup.Event) {
				switch {
				case o.json:
					lines.Encode(e) // its reader has gone: it goes on to its end
				case e.Progress != "":
					report(e.Progress)
				case e.Done != nil:
					fmt.Fprintf(c.OutOrStdout(), "restored: %d databases, %d services\n", len(e.Done.Databases), len(e.Done.Services))
				}
			})
		},
	}
}
