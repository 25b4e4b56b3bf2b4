package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/databases"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/group"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/pipeline"
)

func newRestore() *cobra.Command {
	var f phoneFlags
	var chosen backup.Choice
	var identity string
	var passphrase passphraseFile
	var yes, check bool
	c := &cobra.Command{
		Use:   "restore NAME FILE",
		Short: "Restore the databases and services' data of a machine on the phone from a backup",
		Long: `Restore the databases of a running machine, and the data of its services, from a file of
` + "`sov backup`" + `. sov checks the file, restores each database under a temporary name, and writes the
services' files to temporary files. When everything is complete, it replaces the present data: the
databases in one transaction, which closes existing connections to them, and the files while their
service is stopped. If a step fails before that, nothing is changed. The data disk needs space for
both. Finally, services with their own restore program (backup.restore in the recipe) read their
data.

Databases and services that are not in the file are not changed. The saved paths of a service are
replaced as a whole. Missing roles are created with their saved passwords; existing roles keep
theirs. sov asks at the terminal before it replaces anything; --yes confirms in advance. --database
and --service restore only what they name.

An encrypted file needs the identity of one of its recipients: an age identity file or an SSH
private key. A truncated or changed file is refused before anything on the phone is changed. --check
only checks the file, prints its content, and needs no phone.

For a group file, FILE is the folder that sov backup created. All files are checked first. Then the
machines are restored in the order in which they start. All machines must be running.`,
		Example: `  sov restore sql sql.zip
  sov restore sql sql.zip --database shop --yes
  sov restore forge forge.zip --service forge
  sov restore sql sql.zip.age --identity ~/.ssh/id_ed25519 --check
  sov restore ./home.yaml backups/2026-11-26`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			g, err := group.Load(args[0])
			if err != nil {
				return err
			}
			whole := "" // the group's name
			files := []archiveFile{{path: args[1]}}
			if g == nil {
				files[0].machine, _, err = built.Machine(args[0])
			} else if whole = g.Name; len(chosen.Databases)+len(chosen.Services) > 0 {
				err = usagef("--database and --service: name one machine of the group, and its file")
			} else {
				files, err = archivesOf(g, args[1])
			}
			if err != nil {
				return err
			}
			for i := range files {
				if err := files[i].open(c, identity, passphrase, chosen); err != nil {
					return err
				}
				defer files[i].Close()
				if whole != "" && files[i].Machine != files[i].machine {
					return fmt.Errorf("%s is a backup of %s: put that of %s there", files[i].path, shown(files[i].Machine), files[i].machine)
				}
			}
			if check {
				var failed []error
				for _, file := range files {
					failed = append(failed, printCheckedBackup(c, f.asJSON, file.path, file.Archive))
				}
				return errors.Join(failed...)
			}
			if !yes {
				if err := confirm(c, cmp.Or(whole, files[0].machine), lossOf(files)); err != nil {
					return err
				}
			}
			if f.chosen, err = f.choose(c); err != nil {
				return err
			}
			for _, file := range files {
				if err := f.each(c, func(ctx context.Context, s *fleet.Site) error {
					return restore(ctx, s, file.machine, file.Archive, file.chosen)
				}); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(c)
	c.Flags().StringArrayVar(&chosen.Databases, "database", nil, "restore only this database; may be repeated (default: everything in the file)")
	c.Flags().StringArrayVar(&chosen.Services, "service", nil, "restore only this service's data; may be repeated")
	c.Flags().StringVar(&identity, "identity", "", "age identity file or SSH private key to decrypt the file (default: $SOV_IDENTITY)")
	passphraseFlag(c, &passphrase)
	c.Flags().BoolVar(&check, "check", false, "check the file, print its content, and restore nothing")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// An archiveFile is a backup file to restore to a machine.
type archiveFile struct {
	machine, path string
	chosen        backup.Choice
	*databases.Archive
}

// archivesOf returns the backups of a group in a folder.
func archivesOf(g *group.Group, folder string) (files []archiveFile, err error) {
	if g, err = g.Kept(); err != nil {
		return nil, err
	}
	paths, err := g.Archives(folder)
	for i, path := range paths {
		files = append(files, archiveFile{machine: g.Names()[i], path: path})
	}
	return files, err
}

// open checks the file and the chosen parts. If no parts are chosen, it chooses all.
func (f *archiveFile) open(c *cobra.Command, identity string, passphrase passphraseFile, chosen backup.Choice) (err error) {
	if f.Archive, err = openBackup(c, f.path, identity, passphrase); err != nil {
		return err
	}
	err = errors.Join(held("database", chosen.Databases, f.Databases(), f.path), held("service", chosen.Services, f.Services(), f.path))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if f.chosen = chosen; len(chosen.Databases)+len(chosen.Services) == 0 {
		f.chosen = f.All()
	}
	return nil
}

// lossOf describes the data that a restore replaces.
func lossOf(files []archiveFile) string {
	var each []string
	for _, f := range files {
		each = append(each, fmt.Sprintf("the %s of %s on the phone by those of %s", parts(f.chosen.Databases, f.chosen.Services), f.machine, f.Time.Local().Format(time.DateTime)))
	}
	return "This replaces " + strings.Join(each, ", and ")
}

// held returns an error unless the file contains everything that a flag has chosen.
func held(flag string, chosen, has []string, path string) error {
	for _, name := range chosen {
		if len(has) == 0 {
			return usagef("--%s %s: %s holds no %[1]s", flag, name, path)
		}
		if !slices.Contains(has, name) {
			return usagef("--%s %s: must be one that %s holds: %s", flag, name, path, shownList(has))
		}
	}
	return nil
}

// openBackup opens a backup and checks all of it. It asks for a passphrase first.
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

// A checkedBackup is the output of `sov restore --check --json`.
type checkedBackup struct {
	File       string    `json:"file"`
	Size       int64     `json:"size"`       // bytes
	Recipients int       `json:"recipients"` // 0 if not encrypted
	Machine    string    `json:"machine"`
	Time       time.Time `json:"time"`
	Databases  []string  `json:"databases"`
	Services   []string  `json:"services"` // with data in the backup
}

func printCheckedBackup(c *cobra.Command, asJSON bool, path string, a *databases.Archive) error {
	checked := checkedBackup{path, a.Size, a.Recipients, a.Machine, a.Time, append([]string{}, a.Databases()...), append([]string{}, a.Services()...)}
	return printResult(c.OutOrStdout(), asJSON, checked, func(p *printer) {
		p.printf("%s: whole, of %s, %s, %s%s\n", path, shown(a.Machine), a.Time.Local().Format(time.DateTime), parts(a.Databases(), a.Services()), encryptedTo(a.Recipients))
	})
}

func restore(ctx context.Context, s *fleet.Site, name string, a *databases.Archive, chosen backup.Choice) error {
	did, err := databases.Restore(ctx, s, name, a, chosen, time.Now, transferred(s.ErrOut, "restore"),
		func(progress string) { fmt.Fprintln(s.ErrOut, "restore:", progress) })
	if err != nil {
		return err
	}
	return printResult(s.Out, s.AsJSON, did, func(p *printer) {
		for _, w := range did.Warnings {
			fmt.Fprintln(s.ErrOut, "warning:", w)
		}
		p.printf("restored: %s\n", shownList(slices.Concat(did.Databases, did.Services)))
	})
}

func shownList(names []string) string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = shown(n)
	}
	return strings.Join(list, ", ")
}
