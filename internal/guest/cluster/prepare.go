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

// ErrPermanent is wrapped by errors that a retry does not solve: the user has to act.
var ErrPermanent = errors.New("nothing was changed")

// A Preparation prepares a data directory for the start of a server.
type Preparation struct {
	Data string // the data directory, such as /data/postgres; its parent belongs to root
	Bin  string // the directory of postgres and initdb
	// OldBin is the directory of an older major version's programs, which run the cluster until it
	// is upgraded; may be empty.
	OldBin string
	User   string // the owner of the cluster, who also runs initdb
	// InitArgs are added to initdb's arguments: the locale provider and its locale.
	InitArgs []string
	// Starts is the path of the record of starts, such as StartsFile. If empty, the start is not
	// counted and no settings are put aside.
	Starts string
	Output io.Writer // receives initdb's output and what was done, in lines
}

// Run creates the cluster if it does not exist. Otherwise it removes a stale postmaster.pid, and
// puts aside settings with which the server does not start, see Settings. It runs as root, who owns
// the parent of Data.
//
// The cluster is created under another name and renamed when it is complete; after an interruption
// it is re-created. A directory with other content, or a cluster of another major version, is not
// changed; the error wraps ErrPermanent.
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
		fmt.Fprintln(p.Output, "WARNING:", err) // the server may still start
	}
	return nil
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ([1-9][0-9]*)`)

// serverMajor returns the major version of the server in a directory.
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

// clusterMajor reads the major version of the cluster in dir. It returns fs.ErrNotExist if dir does
// not exist or is empty.
func clusterMajor(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("look for a cluster: %w", err)
	}
	if len(entries) == 0 {
		return "", fmt.Errorf("look for a cluster: %s is empty: %w", dir, fs.ErrNotExist)
	}
	// os.Root prevents links of the server's user from leading out of the directory.
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
	if _, err := strconv.ParseFloat(version, 32); err != nil { // "17", or "9.6" in old versions
		return "", fmt.Errorf("%s/PG_VERSION does not hold a version: the cluster is damaged: %w", dir, ErrPermanent)
	}
	return version, nil
}

// create creates the cluster in a directory beside Data and renames it.
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
	// initdb has synced the directory. Data may be an empty directory, which the rename replaces.
	if err := durable.Rename(unfinished, p.Data); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	fmt.Fprintf(p.Output, "a new cluster was made in %s\n", p.Data)
	return nil
}

// initdb creates a cluster in dir with peer authentication for local users and passwords for remote
// ones. No role has a password yet, so remote users cannot log in.
func (p Preparation) initdb(ctx context.Context, dir string, owner *syscall.Credential) error {
	args := append([]string{
		"--pgdata=" + dir, "--username=postgres", "--encoding=UTF8", "--data-checksums",
		"--auth-local=peer", "--auth-host=scram-sha-256",
	}, p.InitArgs...)
	cmd := exec.CommandContext(ctx, filepath.Join(p.Bin, "initdb"), args...)
	cmd.Dir = dir
	// Without TZ in its environment, initdb compares /etc/localtime with every known zone, which
	// takes 3 s on an emulated machine (select_default_timezone in PostgreSQL's findtimezone.c).
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

// removeStalePID removes the postmaster.pid of a server that is not running any more. After a power
// cut another process may have its number, and the server would refuse to start.
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

// processIn returns a process whose working directory is dir, or 0. Every process of a PostgreSQL
// server runs in its data directory.
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
