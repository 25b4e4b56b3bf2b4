//go:build linux

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/sovereign-sql/sov/internal/durable"
)

// ErrPermanent is wrapped by errors that another try will not change: a person has to look.
var ErrPermanent = errors.New("nothing was changed")

// A Preparation makes a data directory fit for a server to start in.
type Preparation struct {
	Data string // the data directory, such as /data/postgres; its parent belongs to root
	Bin  string // the directory of postgres and initdb
	// OldBin is that of the server of an older major version, in whose cluster it goes on until
	// that is upgraded; empty: there is none.
	OldBin string
	User   string // whom the cluster belongs to, and as whom initdb runs
	// InitArgs are added to initdb's arguments: the locale provider and its locale.
	InitArgs []string
	// Starts is where the server's starts are counted, such as StartsFile; empty: this is not one
	// that counts, and no settings are put aside.
	Starts string
	Output io.Writer // gets what initdb says and what was done, in lines
}

// Run makes the cluster if there is none, and otherwise only removes what a server that lost its
// power left in the way, and puts settings aside with which the server does not start, see
// Settings. It runs as root: the parent of Data is root's.
//
// The cluster is made under another name and renamed when complete, so that one whose making was
// interrupted is re-created. A directory with anything else in it, or a cluster of another major
// version, stays as it is and gives an error that wraps ErrPermanent.
func (p Preparation) Run(ctx context.Context) error {
	major, err := serverMajor(ctx, p.Bin)
	if err != nil {
		return err
	}
	if _, err := settle(p.Data, p.Output); err != nil {
		return fmt.Errorf("tidy up after an upgrade: %w", err)
	}
	found, err := clusterMajor(p.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.create(ctx)
	case err != nil:
		return err
	case found != major && p.OldBin != "":
		if old, err := serverMajor(ctx, p.OldBin); err != nil || found != old {
			return errors.Join(err, fmt.Errorf("%s holds a cluster of PostgreSQL %s, and this version of the machine upgrades from %s to %s: %w",
				p.Data, found, old, major, ErrPermanent))
		}
	case found != major:
		return fmt.Errorf("%s holds a cluster of PostgreSQL %s and this image brings PostgreSQL %s: "+
			"`sov rollback` goes back to an image with PostgreSQL %s, and `sov upgrade` upgrades the cluster from there: %w",
			p.Data, found, major, found, ErrPermanent)
	}
	if err := p.removeStalePID(); err != nil {
		return err
	}
	if p.Starts == "" {
		return nil
	}
	if err := (Settings{Data: p.Data, Starts: p.Starts}).beforeStart(p.Output); err != nil {
		fmt.Fprintln(p.Output, "WARNING:", err) // the server may start all the same
	}
	return nil
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ([1-9][0-9]*)`)

// serverMajor asks the server in a directory for its major version.
func serverMajor(ctx context.Context, bin string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask the server for its version: %w", err)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("ask the server for its version: it answers %q", bytes.TrimSpace(out))
	}
	return string(m[1]), nil
}

// clusterMajor reads the major version of the cluster in dir. It returns fs.ErrNotExist when dir
// is not there or empty.
func clusterMajor(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("look for a cluster: %w", err)
	}
	if len(entries) == 0 {
		return "", fmt.Errorf("look for a cluster: %s is empty: %w", dir, fs.ErrNotExist)
	}
	// A Root keeps a link that the server's user may have made from leading root elsewhere.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("look for a cluster: %w", err)
	}
	defer root.Close()
	f, err := root.Open("PG_VERSION")
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is not empty and holds no PostgreSQL cluster (there is no PG_VERSION): "+
			"move it away, or choose another data disk: %w", dir, ErrPermanent)
	}
	if err != nil {
		return "", fmt.Errorf("look for a cluster: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return "", fmt.Errorf("look for a cluster: %w", err)
	}
	version := strings.TrimSpace(string(b))
	if _, err := strconv.ParseFloat(version, 32); err != nil { // "17", or "9.6" of old
		return "", fmt.Errorf("%s/PG_VERSION does not hold a version: the cluster is damaged: %w", dir, ErrPermanent)
	}
	return version, nil
}

// create makes the cluster beside Data and renames it.
func (p Preparation) create(ctx context.Context) error {
	owner, err := lookUp(p.User)
	if err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	unfinished := p.Data + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("make a cluster: remove what an interrupted try left: %w", err)
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	if err := os.Chown(unfinished, int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	if err := p.initdb(ctx, unfinished, owner); err != nil {
		return err
	}
	// initdb has synced all that is in the directory. Data may be there as an empty directory,
	// which a rename replaces.
	if err := durable.Rename(unfinished, p.Data); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	fmt.Fprintf(p.Output, "a new cluster was made in %s\n", p.Data)
	return nil
}

// initdb fills dir with a cluster whose local users are known by the system's names and whose
// remote ones by passwords, of which there is none yet: no remote user can log in.
func (p Preparation) initdb(ctx context.Context, dir string, owner *syscall.Credential) error {
	args := append([]string{
		"--pgdata=" + dir, "--username=postgres", "--encoding=UTF8", "--data-checksums",
		"--auth-local=peer", "--auth-host=scram-sha-256",
	}, p.InitArgs...)
	cmd := exec.CommandContext(ctx, filepath.Join(p.Bin, "initdb"), args...)
	cmd.Dir = dir
	// Without a time zone in its environment, initdb compares /etc/localtime with every zone that
	// it knows, which takes an emulated machine 3 s (select_default_timezone in PostgreSQL's
	// findtimezone.c).
	cmd.Env = append(os.Environ(), "TZ=UTC")
	cmd.Stdout, cmd.Stderr = p.Output, p.Output
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	// On SIGTERM, initdb removes the files that it made.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make a cluster: %s: %w", cmd.Path, err)
	}
	return nil
}

// removeStalePID removes the postmaster.pid of a server that does not run any more. After a power
// cut its number may belong to any process, and the server would refuse to start.
func (p Preparation) removeStalePID() error {
	root, err := os.OpenRoot(p.Data)
	if err != nil {
		return fmt.Errorf("prepare the cluster: %w", err)
	}
	defer root.Close()
	if _, err := root.Lstat("postmaster.pid"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if pid, err := processIn(p.Data); err != nil {
		return fmt.Errorf("prepare the cluster: look for a server: %w", err)
	} else if pid != 0 {
		return fmt.Errorf("prepare the cluster: process %d still works in %s", pid, p.Data)
	}
	if err := root.Remove("postmaster.pid"); err != nil {
		return fmt.Errorf("prepare the cluster: %w", err)
	}
	fmt.Fprintln(p.Output, "the postmaster.pid of a server that was not shut down was removed")
	return nil
}

// processIn returns a process whose working directory is dir, as that of every process of a
// PostgreSQL server is its data directory, or 0.
func processIn(dir string) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd")); err == nil && cwd == dir {
			return pid, nil
		}
	}
	return 0, nil
}

// lookUp returns the ids of the named user.
func lookUp(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
