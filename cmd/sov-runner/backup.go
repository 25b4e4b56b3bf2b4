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
		Long: `Write all roles and databases of a running machine, and the data of its services with a backup, to
standard output. "sov backup" converts this stream to an archive. The end of the stream says whether
it is complete.`,
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
	c.Flags().BoolVar(&identity, "identity", false, "also save its tailnet node")
	c.Flags().BoolVar(&saved, "saved", false, "write nothing: record the backup that standard input describes, for status")
	return c
}

func newRestore(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "restore NAME",
		Short: "Restore a machine's databases and services' data from standard input",
		Long: `Restore the databases of a running machine, and the data of its services, from a stream of
"sov-runner backup" or "sov restore". Present data is replaced only after the whole stream was
received and restored. With --json the guest's events are printed as they arrive, one per line.`,
		Example: "  sov-runner restore sql <sql.stream",
		Args:    oneName,
		RunE: func(c *cobra.Command, args []string) error {
			report := progress(c.ErrOrStderr(), args[0])
			lines := json.NewEncoder(c.OutOrStdout())
			return daemon.Restore(c.Context(), o.layout(), args[0], os.Stdin, func(e backup.Event) {
				switch {
				case o.json:
					lines.Encode(e) // the restore continues if the output was closed
				case e.Progress != "":
					report(e.Progress)
				case e.Done != nil:
					fmt.Fprintf(c.OutOrStdout(), "restored: %d databases, %d services\n", len(e.Done.Databases), len(e.Done.Services))
				}
			})
		},
	}
}
