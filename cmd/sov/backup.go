package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/agefile"
	"github.com/sovereign-sql/sov/internal/host/databases"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/group"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

func newBackup() *cobra.Command {
	var path string
	inFolder := false // of a group
	var named []string
	var to []agefile.Recipient
	var plain, node bool
	return phoneVerb{
		use: "backup FILE", args: 1,
		short: "Save the databases of a machine on the phone, and its services' data, to a file",
		long: `Save all roles and databases of a running machine to a file on this computer. Each database is saved
as it was at one moment, and PostgreSQL keeps running. The data of services with a backup in the
recipe is saved too: a program of the service writes it, or the service is stopped while its files
are read.

The file is a ZIP archive that PostgreSQL's own programs can use after unzip: roles.sql for psql, a
file for each database for pg_restore, services/NAME.tar and services/NAME.stream, and backup.json
with their digests. The file appears, or replaces an older one, when it is complete and checked. It
contains the roles' password verifiers, so only its owner may read it.

With --recipient, the file is encrypted with age while it is received, and is never on this
computer's disk unencrypted. The identity of one recipient restores it (sov restore --identity) or
decrypts it (age -d). The computer that makes the backup needs no identity.

With --node, the file also contains the state of the machine's tailnet node, and must be encrypted.
The restored machine is then the same node, with the same name and addresses. Two machines must not
be the same node: shut the old machine down permanently first.

For a group file, FILE is a folder that is created, with a file NAME.zip or NAME.zip.age for each
machine. The machines are saved one after the other in the order in which they start, so that files
are saved after the database that refers to them.`,
		example: `  sov backup sql sql.zip
  sov backup ./home.yaml "backups/$(date +%F)"
  sov backup sql "backups/$(date +%F).zip"
  sov backup sql sql.zip.age --recipient ~/.ssh/id_ed25519.pub --recipient age1…`,
		single: "a file takes the backup of one phone",
		group:  inOrder,
		forGroup: func(g *group.Group, args []string) (*group.Group, error) {
			inFolder = true
			g, err := g.Kept()
			if err != nil {
				return nil, err
			}
			return g, g.MakeFolder(args[0])
		},
		flags: func(c *cobra.Command) {
			c.Flags().StringArrayVar(&named, "recipient", nil, "encrypt the file to this recipient: age1…, \"ssh-ed25519 …\", \"ssh-rsa …\", or a file of those; may be repeated (default: $SOV_BACKUP_RECIPIENTS)")
			c.Flags().BoolVar(&node, "node", false, "also save the machine's tailnet node; requires encryption")
			c.Flags().BoolVar(&plain, "plain", false, "do not encrypt the file, even if recipients are configured")
		},
		prepare: func(c *cobra.Command, name string, args []string) error {
			path = args[0]
			if err := excludeEachOther(c, [2]string{"plain", "recipient"}); err != nil {
				return err
			}
			s, err := settings.Load(os.Getenv)
			if err != nil {
				return err
			}
			if named = s.Get(settings.Recipients, named...).Values; plain {
				named = nil
			}
			if to, err = agefile.Recipients(named); err != nil {
				return err
			}
			if inFolder {
				path = group.Archive(path, name, len(to) > 0)
			}
			if node && len(to) == 0 {
				return usagef("--node: the file would hold the node's key: encrypt it with --recipient")
			}
			if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
				return usagef("%s is not a file: name a file to write, such as %[1]s/%s.zip", path, name)
			}
			if dir := filepath.Dir(path); !exists(dir) {
				return fmt.Errorf("back up to %s: the folder %s does not exist: make it first", path, dir)
			}
			return nil
		},
		do: func(ctx context.Context, s *fleet.Site, name string) error {
			fmt.Fprintf(s.ErrOut, "backup: saving %s on %s\n", name, s.Name())
			saved, err := databases.Save(ctx, s, name, path, to, node, time.Now, transferred(s.ErrOut, "backup"))
			if saved == nil {
				return err
			}
			return errors.Join(err, printResult(s.Out, s.AsJSON, saved, func(p *printer) {
				p.printf("%s: %s, %s%s\n", path, progress.FormatSize(saved.Size), parts(saved.Databases, saved.Services), encryptedTo(saved.Recipients))
			}))
		},
	}.command()
}

// parts names the contents of a backup.
func parts(databases, services []string) string {
	var text []string
	if len(databases) > 0 || len(services) == 0 {
		text = append(text, "databases "+shownList(databases))
	}
	if len(services) > 0 {
		text = append(text, "services "+shownList(services))
	}
	return strings.Join(text, ", ")
}

// encryptedTo returns a phrase with the number of recipients of a backup, or "" if it is not
// encrypted.
func encryptedTo(recipients int) string {
	switch recipients {
	case 0:
		return ""
	case 1:
		return ", encrypted to 1 recipient"
	}
	return fmt.Sprintf(", encrypted to %d recipients", recipients)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// transferred returns a callback that prints the transferred size and the time.
func transferred(w io.Writer, what string) databases.Passed {
	return func(n int64, took time.Duration) {
		fmt.Fprintf(w, "%s: %s in %.0f s\n", what, progress.FormatSize(n), took.Seconds())
	}
}
