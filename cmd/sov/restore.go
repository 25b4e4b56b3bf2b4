package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/databases"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/pipeline"
)

func newRestore() *cobra.Command {
	var f phoneFlags
	var wanted []string
	var identity string
	var passphrase passphraseFile
	var yes, check bool
	c := &cobra.Command{
		Use:   "restore NAME FILE",
		Short: "Make the databases of a machine on the phone what they are in a backup",
		Long: `Make the databases of a machine that runs what they were when ` + "`sov backup`" + ` saved them to a file. The file is checked first.
Each database is restored under another name, and only when all of them are whole do they take the places of those that
are there, in one transaction; existing connections to those are closed. Until then, and if anything fails, everything is
as it was. It takes room for both on the data disk.

Databases that are not in the file stay. Roles that are missing are made with the passwords they had; those that are there
keep theirs. sov asks at the terminal before it replaces databases; --yes confirms in advance.

An encrypted file needs the identity of one of its recipients: an age identity file, or an SSH private key. A file that was cut off
or changed is refused before the phone is touched. --check stops there, prints what the file holds, and needs no phone.`,
		Example: `  sov restore sql sql.zip
  sov restore sql sql.zip --database shop --yes
  sov restore sql sql.zip.age --identity ~/.ssh/id_ed25519 --check`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			name, _, err := built.Machine(args[0])
			if err != nil {
				return err
			}
			a, err := openBackup(c, args[1], identity, passphrase)
			if err != nil {
				return err
			}
			defer a.Close()
			for _, d := range wanted {
				if !slices.Contains(a.Databases(), d) {
					return usagef("--database %s: must be one that %s holds: %s", d, args[1], shownList(a.Databases()))
				}
			}
			if check {
				return printCheckedBackup(c, f.asJSON, args[1], a)
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
	c.Flags().StringVar(&identity, "identity", "", "age identity file or SSH private key that opens an encrypted file (default: $SOV_IDENTITY)")
	passphraseFlag(c, &passphrase)
	c.Flags().BoolVar(&check, "check", false, "check the file, print what it holds, and restore nothing")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// openBackup opens a backup and checks all of it. A passphrase is asked for before that.
func openBackup(c *cobra.Command, path, identity string, passphrase passphraseFile) (a *databases.Archive, err error) {
	s, err := settings.Load(os.Getenv)
	if err != nil {
		return nil, err
	}
	ask, err := passphrase.ask()
	if err != nil {
		return nil, err
	}
	key, err := databases.Unlock(c.Context(), path, databases.Keys{Identity: s.Get(settings.Identity, identity).One(), Ask: ask})
	if err != nil {
		return nil, err
	}
	err = working(c, "check "+path, func(context.Context, *pipeline.Task) (err error) {
		a, err = databases.Open(path, key)
		return err
	})
	return a, err
}

// A checkedBackup is what `sov restore --check --json` prints.
type checkedBackup struct {
	File       string    `json:"file"`
	Size       int64     `json:"size"`       // bytes
	Recipients int       `json:"recipients"` // it is encrypted to; 0: it is plain
	Machine    string    `json:"machine"`
	Time       time.Time `json:"time"`
	Databases  []string  `json:"databases"`
}

func printCheckedBackup(c *cobra.Command, asJSON bool, path string, a *databases.Archive) error {
	checked := checkedBackup{path, a.Size, a.Recipients, a.Machine, a.Time, append([]string{}, a.Databases()...)}
	return printResult(c.OutOrStdout(), asJSON, checked, func(p *printer) {
		p.printf("%s: whole, of %s, %s, databases %s%s\n", path, shown(a.Machine), a.Time.Local().Format(time.DateTime), shownList(a.Databases()), encryptedTo(a.Recipients))
	})
}

func restore(ctx context.Context, s *fleet.Site, name string, a *databases.Archive, wanted []string) error {
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
