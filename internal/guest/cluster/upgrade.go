//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/durable"
)

// An Upgrade makes a cluster of one major version of PostgreSQL one of another, by pg_upgrade,
// which copies it. No server works in the cluster meanwhile.
//
// The new cluster is made in DATA.upgrade. It is complete, its server has run and its statistics
// are there before one step of the file system exchanges it with the old one: until then the old
// cluster is untouched, and whatever ends the upgrade leaves it. After that step the new one
// counts, and the old one is kept as DATA.old-MAJOR. [Preparation.Run] removes what an upgrade that
// was cut off has left, at the server's next start.
type Upgrade struct {
	Data    string // the data directory; its parent belongs to root
	User    string // whom the cluster belongs to
	Bin     string // directory of the new server's programs
	OldBin  string // of the old one's; empty: this machine upgrades nothing
	Config  string // the server's configuration file
	Sockets string // directory in which the servers listen while they are upgraded, and nowhere else

	Output io.Writer    // gets what the programs say, in lines
	Report func(string) // told what is done next; nil: nobody is

	step func(string) // called at each step; tests die there
}

// pathForm is what a path may hold that pg_upgrade hands to a shell.
var pathForm = regexp.MustCompile(`^/[A-Za-z0-9/._-]+$`)

// upgradeDir is where an upgrade works, and clusterIn where the new cluster is in it: the old one
// after the exchange.
func upgradeDir(data string) string { return data + ".upgrade" }
func clusterIn(data string) string  { return filepath.Join(upgradeDir(data), "cluster") }

// KeptDir is where the cluster of a major version is kept after it was upgraded.
func KeptDir(data, major string) string { return data + ".old-" + major }

// Run upgrades the cluster, and says from which version to which. An error means that the cluster
// is as it was.
func (u Upgrade) Run(ctx context.Context) (did *backup.Upgraded, err error) {
	did, err = u.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("upgrade the databases: %w", err)
	}
	return did, nil
}

func (u Upgrade) run(ctx context.Context) (*backup.Upgraded, error) {
	w, err := u.begin()
	if err != nil {
		return nil, err
	}
	if err := w.versions(ctx); err != nil {
		return nil, err
	}
	if err := (Preparation{Data: u.Data, Bin: u.OldBin, User: u.User, Output: u.Output}).Run(ctx); err != nil {
		return nil, err // a cut off upgrade's leftovers are gone after it
	}
	if err := w.make(ctx); err != nil {
		return nil, errors.Join(err, w.undo())
	}
	return w.commit()
}

func (u Upgrade) begin() (*upgrading, error) {
	owner, err := lookUp(u.User)
	if u.step == nil {
		u.step = func(string) {}
	}
	return &upgrading{Upgrade: u, owner: owner}, err
}

// An upgrading is one upgrade under way.
type upgrading struct {
	Upgrade
	owner    *syscall.Credential
	from, to string // major versions
	old      properties
}

func (w *upgrading) report(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(w.Output, text)
	if w.Report != nil {
		w.Report(text)
	}
}

// versions learns what is to become what.
func (w *upgrading) versions(ctx context.Context) (err error) {
	if w.OldBin == "" {
		return errors.New("the version of the machine that runs has one PostgreSQL alone: `sov upgrade` brings one that has both")
	}
	for _, path := range []string{w.Data, w.Config, w.Sockets} {
		if !pathForm.MatchString(path) {
			return fmt.Errorf("%s: pg_upgrade takes letters, digits and -._ in paths only: change postgres.data in the recipe", path)
		}
	}
	if w.to, err = serverMajor(ctx, w.Bin); err != nil {
		return err
	}
	old, err := serverMajor(ctx, w.OldBin)
	if err != nil {
		return err
	}
	if w.from, err = clusterMajor(w.Data); err != nil {
		return err
	}
	switch {
	case w.from == w.to:
		return fmt.Errorf("they already belong to PostgreSQL %s", w.to)
	case w.from != old:
		return fmt.Errorf("they belong to PostgreSQL %s, and this version of the machine upgrades from %s to %s", w.from, old, w.to)
	}
	return nil
}

// make makes the new cluster and leaves it as it is to be.
func (w *upgrading) make(ctx context.Context) error {
	if err := w.checkRoom(); err != nil {
		return err
	}
	w.report("looking at the cluster of PostgreSQL %s", w.from)
	if err := w.lookAtOld(ctx); err != nil {
		return err
	}
	w.step("looked")
	if err := w.folders(); err != nil {
		return err
	}
	w.step("folders")
	w.report("making a cluster of PostgreSQL %s", w.to)
	if err := w.program(ctx, w.Bin, "initdb", w.initArgs()...); err != nil {
		return err
	}
	w.step("initdb")
	if err := w.takeSettings(ctx); err != nil {
		return err
	}
	w.step("settings")
	w.report("checking whether pg_upgrade can do it")
	if err := w.pgUpgrade(ctx, "--check"); err != nil {
		return err
	}
	w.step("checked")
	w.report("copying the databases (%d MiB)", w.old.size>>20)
	if err := w.pgUpgrade(ctx); err != nil {
		return err
	}
	w.step("copied")
	w.report("starting PostgreSQL %s, and making the planner's statistics", w.to)
	if err := w.proveNew(ctx); err != nil {
		return err
	}
	w.step("proven")
	return durable.SyncFileSystem(w.Data)
}

// commit makes the new cluster the one that counts.
func (w *upgrading) commit() (*backup.Upgraded, error) {
	w.step("synced")
	if err := durable.Exchange(w.Data, clusterIn(w.Data)); err != nil {
		// Whether it has happened is what the next start looks at.
		return nil, fmt.Errorf("put the new cluster in the place of the old one: %w", err)
	}
	w.step("exchanged")
	if _, err := settle(w.Data, w.Output); err != nil {
		w.report("the cluster is upgraded; the next start removes the remaining files: %v", err)
	}
	w.step("settled")
	return &backup.Upgraded{From: w.from, To: w.to, Kept: KeptDir(w.Data, w.from), KeptSize: w.old.size}, nil
}

// undo leaves nothing of a new cluster.
func (w *upgrading) undo() error {
	if err := endProcesses(w.Data, clusterIn(w.Data)); err != nil {
		return err
	}
	return dropUpgrade(w.Data)
}

// folders makes where the new cluster is made, and where pg_upgrade writes its notes.
func (w *upgrading) folders() error {
	if err := os.Mkdir(upgradeDir(w.Data), 0o755); err != nil {
		return err
	}
	for _, dir := range []string{clusterIn(w.Data), w.notes()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := os.Chown(dir, int(w.owner.Uid), int(w.owner.Gid)); err != nil {
			return err
		}
	}
	return nil
}

func (w *upgrading) notes() string { return filepath.Join(upgradeDir(w.Data), "notes") }

// upgradeReserve is what has to stay free on the data disk: a cluster without databases, and the
// log of the work in it, in bytes.
const upgradeReserve = 192 << 20

// checkRoom refuses an upgrade whose second cluster does not fit.
func (w *upgrading) checkRoom() error {
	size, err := clusterSize(w.Data)
	if err != nil {
		return err
	}
	w.old.size = size
	var s unix.Statfs_t
	if err := unix.Statfs(w.Data, &s); err != nil {
		return fmt.Errorf("%s: %w", w.Data, err)
	}
	if free := int64(s.Bavail) * s.Bsize; size+upgradeReserve > free {
		return fmt.Errorf("there is not enough room on the data disk: a second cluster takes %d MiB, and %d MiB are free: enlarge it (vm.data in the recipe, "+
			"data_mib in the phone's settings), or remove an older kept cluster (`sov upgrade --forget`)", (size+upgradeReserve)>>20, free>>20)
	}
	return nil
}

// clusterSize is how much room the files of a cluster take, with those in its tablespaces, in
// bytes.
func clusterSize(data string) (size int64, err error) {
	spaces, err := tablespaces(data)
	if err != nil {
		return 0, err
	}
	for _, dir := range append([]string{data}, spaces...) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var s unix.Stat_t
			if unix.Lstat(path, &s) == nil {
				size += s.Blocks * 512 // stat(2): whatever the file system's blocks are
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return size, nil
}

// olderThan compares major versions.
func olderThan(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 32) // "9.6" of old
	y, errY := strconv.ParseFloat(b, 32)
	return errX == nil && errY == nil && x < y
}
