package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/host/agefile"
	"github.com/sovereign-sql/sov/internal/host/built"
	"github.com/sovereign-sql/sov/internal/host/databases"
	"github.com/sovereign-sql/sov/internal/host/fleet"
	"github.com/sovereign-sql/sov/internal/host/install"
	"github.com/sovereign-sql/sov/internal/host/settings"
	"github.com/sovereign-sql/sov/pipeline/progress"
)

// An upgrade is one run of `sov upgrade`.
type upgrade struct {
	build     buildFlags
	push      pushFlags
	file      string // the backup's
	noBackup  bool
	checksums bool
	forget    bool
}

func newUpgrade() *cobra.Command {
	var u upgrade
	c := &cobra.Command{
		Use:   "upgrade RECIPE",
		Short: "Upgrade the databases of a machine on the phone to another major version of PostgreSQL",
		Long: `Upgrade the databases of a running machine on the phone to the major version of PostgreSQL in its
lock. sov first saves a backup, as sov backup does, and installs a version of the machine with both
major versions. Then PostgreSQL is stopped, and pg_upgrade copies the databases. Extensions are
updated and statistics collected. Finally the copy replaces the old databases in one step. If
anything fails before that step, even a power cut, the old databases stay in use. The old databases
are kept on the phone until --forget removes them. Data that is written after the upgrade is not in
them, and sov rollback refuses a version that has only the old PostgreSQL.

The data disk needs space for the databases twice. Request the new major version in the lock first:
sov lock RECIPE --update all --set postgres.major=17. The repositories must have both versions. If
no Alpine release has both, upgrade in steps, or use a backup, a new data disk and sov restore.

--checksums adds checksums to databases that were created without them. PostgreSQL is stopped while
every page is read.`,
		Example: `  sov upgrade sql
  sov upgrade sql --backup before.zip --device R58M12345
  sov upgrade sql --checksums
  sov upgrade sql --forget`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: recipes,
		RunE: func(c *cobra.Command, args []string) error {
			err := excludeEachOther(c, [2]string{"forget", "checksums"}, [2]string{"backup", "no-backup"}, [2]string{"forget", "backup"}, [2]string{"checksums", "backup"})
			if err == nil && u.push.several() {
				err = usagef("a backup is for one phone: choose one with --device")
			}
			if err != nil {
				return err
			}
			if u.push.chosen, err = u.push.choose(c); err != nil { // the user selects the phone once for all steps
				return err
			}
			switch {
			case u.forget:
				return u.only(c, args[0], guestspec.DoForget)
			case u.checksums:
				return u.only(c, args[0], guestspec.DoChecksums)
			}
			return u.run(c, args[0])
		},
	}
	u.build.add(c)
	variantFlags(c, &u.build.recipeFlags)
	u.push.addDevice(c)
	u.push.up.add(c)
	identityFlag(c, &u.push.identity)
	flags := c.Flags()
	flags.StringVarP(&u.build.Out, "out", "o", "out", "folder for artifacts; the version for the upgrade is in its folder upgrade")
	flags.StringVar(&u.build.Image, "image", "", "base image instead of the recipe's, as for the build")
	flags.StringArrayVar(&u.build.Repositories, "repository", nil, "package repository instead of the recipe's, as for the build; may be repeated")
	flags.StringVar(&u.build.Kernel, "kernel", "", "a compiled kernel to use instead of building one")
	flags.StringVar(&u.file, "backup", "", "file for the backup (default: NAME-postgresqlMAJOR.zip, here)")
	flags.BoolVar(&u.noBackup, "no-backup", false, "do not save a backup")
	flags.BoolVar(&u.checksums, "checksums", false, "only add checksums to the databases")
	flags.BoolVar(&u.forget, "forget", false, "only remove the old databases that an upgrade has kept")
	flags.BoolVar(&u.build.asJSON, "json", false, "print JSON: what was done")
	return c
}

// An upgraded is the output of `sov upgrade --json`.
type upgraded struct {
	Machine string `json:"machine"`
	Backup  string `json:"backup,omitempty"` // path
	*backup.Upgraded
}

// only performs one operation on the databases of the running machine.
func (u *upgrade) only(c *cobra.Command, recipe, do string) error {
	name, _, err := built.Machine(recipe)
	if err != nil {
		return err
	}
	return u.push.each(c, func(ctx context.Context, s *fleet.Site) error { return u.do(ctx, s, upgraded{Machine: name}, do) })
}

func (u *upgrade) do(ctx context.Context, s *fleet.Site, done upgraded, do string) (err error) {
	done.Upgraded, err = databases.Upgrade(ctx, s, done.Machine, do, func(progress string) { fmt.Fprintln(s.ErrOut, "upgrade:", progress) })
	if err != nil {
		return err
	}
	return printResult(s.Out, u.build.asJSON, done, func(p *printer) { p.printf("%s: %s\n", done.Machine, done.Upgraded) })
}

// run upgrades the databases: it builds the version for the upgrade, saves a backup, pushes the
// version, and requests the upgrade from the guest.
func (u *upgrade) run(c *cobra.Command, recipe string) error {
	u.build.Jobs = runtime.NumCPU()
	if err := u.build.prepare(c, recipe); err != nil {
		return err
	}
	done := upgraded{Machine: u.build.Recipe.Name, Backup: u.file}
	var from int
	err := u.push.each(c, func(ctx context.Context, s *fleet.Site) (err error) {
		from, err = serverOf(ctx, s, done.Machine)
		return err
	})
	if err != nil {
		return err
	}
	if done.Backup == "" && !u.noBackup {
		done.Backup = fmt.Sprintf("%s-postgresql%d.zip", done.Machine, from)
	}
	// Only the upgrade's report goes to standard output. The output of build and push goes to
	// standard error.
	answer := c.OutOrStdout()
	c.SetOut(c.ErrOrStderr())
	defer c.SetOut(answer)
	u.build.set = append(u.build.set, fmt.Sprint("postgres.upgrade_from=", from))
	u.build.Out = filepath.Join(u.build.Out, "upgrade")
	asJSON := u.build.asJSON
	u.build.asJSON = false
	if err := runBuild(c, recipe, &u.build); err != nil {
		return err
	}
	u.build.asJSON = asJSON
	if err := u.save(c, done); err != nil {
		return err
	}
	u.push.start, u.push.arch, u.push.out = true, u.build.Arch, u.build.Out
	if _, err := pushTo(c, filepath.Join(u.build.Out, done.Machine, u.build.Arch), u.push); err != nil {
		return err
	}
	c.SetOut(answer)
	err = u.push.each(c, func(ctx context.Context, s *fleet.Site) error { return u.do(ctx, s, done, guestspec.DoUpgrade) })
	if err == nil {
		next(c, u.build.asJSON, append([]string{"sov", "test", done.Machine}, u.push.again()...)...)
	}
	return err
}

// serverOf returns the major version of a running machine's PostgreSQL.
func serverOf(ctx context.Context, s *fleet.Site, name string) (int, error) {
	now, err := install.Status(ctx, s, name)
	if errors.Is(err, fleet.ErrNoRunner) {
		return 0, fmt.Errorf("%s: %w: no machine is installed there", s.Name(), err)
	}
	if err != nil {
		return 0, err
	}
	if !now.CrosvmAlive || now.Database != nil && !now.Database.Ready { // an older sov-runner does not report the database
		return 0, fmt.Errorf("upgrade %s on %s: its PostgreSQL does not answer: `sov start %[1]s` starts it, `sov status %[1]s` says what keeps it", name, s.Name())
	}
	major, err := install.ClusterMajor(ctx, s, name)
	if err == nil && major == 0 {
		err = fmt.Errorf("upgrade %s on %s: nothing says of which major version its PostgreSQL is: push and start a version of it with this sov first, with the same PostgreSQL", name, s.Name())
	}
	return major, err
}

// save saves the backup unless --no-backup is set.
func (u *upgrade) save(c *cobra.Command, done upgraded) error {
	if u.noBackup {
		return nil
	}
	values, err := settings.Load(os.Getenv)
	if err != nil {
		return err
	}
	to, err := agefile.Recipients(values.Get(settings.Recipients).Values)
	if err != nil {
		return err
	}
	return u.push.each(c, func(ctx context.Context, s *fleet.Site) error {
		fmt.Fprintf(s.ErrOut, "backup: saving %s on %s\n", done.Machine, s.Name())
		saved, err := databases.Save(ctx, s, done.Machine, done.Backup, to, false, time.Now, transferred(s.ErrOut, "backup"))
		if err == nil {
			fmt.Fprintf(s.ErrOut, "backup: %s, %s\n", done.Backup, progress.FormatSize(saved.Size))
		}
		return err
	})
}
