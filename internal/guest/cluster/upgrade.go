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
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/backup"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/guest/filesystem"
)

// An Upgrade upgrades a cluster to another major version of PostgreSQL with pg_upgrade, which
// copies it. No server may run in the cluster meanwhile.
//
// The new cluster is created in DATA.upgrade. After it is complete, its server has run and its
// statistics exist, one rename swaps it with the old cluster. Until then the old cluster is
// unchanged, however the upgrade ends. After the swap the new cluster is used, and the old one is
// kept as DATA.old-MAJOR. At the server's next start, [Preparation.Run] removes what an interrupted
// upgrade left.
type Upgrade struct {
	Data    string // the data directory; its parent belongs to root
	User    string // whom the cluster belongs to
	Bin     string // directory of the new server's programs
	OldBin  string // of the old server's; empty: this machine does not upgrade
	Config  string // postgresql.conf, with pg_hba.conf and pg_ident.conf beside it
	Sockets string // directory of the only sockets of the servers during the upgrade

	Output io.Writer    // receives the programs' output, in lines
	Report func(string) // called before each step with its description; may be nil

	step func(string) // called at each step; tests die there
}

// pathForm matches the paths that are safe for pg_upgrade, which passes them to a shell.
var pathForm = regexp.MustCompile(`^/[A-Za-z0-9/._-]+$`)

// upgradeDir returns the working directory of an upgrade. clusterIn returns the new cluster's
// directory in it, which is the old cluster's after the swap.
func upgradeDir(data string) string { return data + ".upgrade" }
func clusterIn(data string) string  { return filepath.Join(upgradeDir(data), "cluster") }

// KeptDir returns the directory in which the cluster of a major version is kept after the upgrade.
func KeptDir(data, major string) string { return data + ".old-" + major }

// Run upgrades the cluster and returns the old and the new version. After an error the cluster is
// unchanged.
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
		return nil, err // it has also removed leftovers of an interrupted upgrade
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

// An upgrading is a running upgrade.
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

// versions determines the old and the new version.
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

// make creates the new cluster and completes it.
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

// commit swaps the new cluster in.
func (w *upgrading) commit() (*backup.Upgraded, error) {
	w.step("synced")
	// A mount would stay with the old cluster, and could not be removed with it. The server's next
	// start mounts what it needs.
	for _, at := range filesystem.MountsBelow(w.Data) {
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return nil, fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	if err := durable.Exchange(w.Data, clusterIn(w.Data)); err != nil {
		// The next start finds out whether the swap has happened.
		return nil, fmt.Errorf("put the new cluster in the place of the old one: %w", err)
	}
	w.step("exchanged")
	if _, err := settle(w.Data, w.Output); err != nil {
		w.report("the cluster is upgraded; the next start removes the remaining files: %v", err)
	}
	w.step("settled")
	return &backup.Upgraded{From: w.from, To: w.to, Kept: KeptDir(w.Data, w.from), KeptSize: w.old.size}, nil
}

// undo removes the new cluster.
func (w *upgrading) undo() error {
	if err := endProcesses(w.Data, clusterIn(w.Data)); err != nil {
		return err
	}
	return dropUpgrade(w.Data)
}

// folders creates the folders of the new cluster and of pg_upgrade's log files.
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

// upgradeReserve is the space that must stay free on the data disk, in bytes: for an empty cluster
// and its WAL.
const upgradeReserve = 192 << 20

// checkRoom returns an error if a second cluster does not fit on the disk.
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

// clusterSize returns the disk space of a cluster with its tablespaces, in bytes.
func clusterSize(data string) (size int64, err error) {
	major, err := clusterMajor(data)
	if err != nil {
		return 0, err
	}
	spaces, err := tablespaces(data)
	if err != nil {
		return 0, err
	}
	for _, dir := range append([]string{data}, spaces...) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if dir != data && filepath.Dir(path) == dir && d.IsDir() && !strings.HasPrefix(d.Name(), spacePrefix(major)) {
				return fs.SkipDir // a kept cluster's
			}
			var s unix.Stat_t
			if unix.Lstat(path, &s) == nil {
				size += s.Blocks * 512 // stat(2): always units of 512
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
	x, errX := strconv.ParseFloat(a, 32) // "9.6" in old versions
	y, errY := strconv.ParseFloat(b, 32)
	return errX == nil && errY == nil && x < y
}
