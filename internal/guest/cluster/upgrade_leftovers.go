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
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/durable"
)

// settle removes what an upgrade has left beside the cluster in data: the new cluster of one that
// was cut off, or nothing but the work's folder of one that is done, whose old cluster gets the
// name under which it is kept. It reports whether there was anything.
func settle(data string, output io.Writer) (found bool, err error) {
	if _, err := os.Lstat(upgradeDir(data)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	current, err := clusterMajor(data)
	if err != nil {
		return true, err
	}
	inside, err := clusterMajor(clusterIn(data))
	switch {
	case errors.Is(err, fs.ErrNotExist): // it had not begun, or has its place already
	case err == nil && olderThan(inside, current):
		kept := KeptDir(data, inside)
		if err := removeCluster(kept); err != nil { // of an upgrade before
			return true, err
		}
		if err := durable.Rename(clusterIn(data), kept); err != nil {
			return true, fmt.Errorf("keep the old cluster: %w", err)
		}
		fmt.Fprintf(output, "the cluster of PostgreSQL %s is kept in %s\n", inside, kept)
	default:
		fmt.Fprintln(output, "an upgrade that was not finished is undone")
	}
	return true, dropUpgrade(data)
}

// dropUpgrade removes the folder of an upgrade, and what its new cluster has in the tablespaces of
// the one in data.
func dropUpgrade(data string) error {
	if inside, err := clusterMajor(clusterIn(data)); err == nil {
		if err := dropTablespaces(data, inside); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(upgradeDir(data)); err != nil {
		return fmt.Errorf("remove what an upgrade left: %w", err)
	}
	return durable.SyncDir(filepath.Dir(data))
}

// Forget removes the clusters that were kept, and returns their directories.
func Forget(data string) (removed []string, err error) {
	kept, err := filepath.Glob(KeptDir(data, "*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range kept {
		if err := removeCluster(dir); err != nil {
			return removed, fmt.Errorf("remove %s: %w", dir, err)
		}
		removed = append(removed, dir)
	}
	return removed, nil
}

// removeCluster removes a cluster, with what it has in tablespaces.
func removeCluster(dir string) error {
	major, err := clusterMajor(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, ErrPermanent): // half removed
	case err != nil:
		return err
	default:
		if err := dropTablespaces(dir, major); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// tablespaces are the directories of a cluster's tablespaces outside of it.
func tablespaces(data string) (dirs []string, err error) {
	links, err := os.ReadDir(filepath.Join(data, "pg_tblspc"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, link := range links {
		dir, err := os.Readlink(filepath.Join(data, "pg_tblspc", link.Name()))
		if err != nil || !filepath.IsAbs(dir) {
			continue
		}
		if _, err := os.Stat(dir); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs, err
}

// dropTablespaces removes what a cluster of a major version has in the tablespaces of the one in
// data: each version has a folder of its own there, PG_MAJOR_CATALOG (PostgreSQL's
// TABLESPACE_VERSION_DIRECTORY). The server's user could have linked a tablespace to anywhere: a
// Root keeps the removal in it, and only folders of the server's user are removed.
func dropTablespaces(data, major string) error {
	var owner unix.Stat_t
	if err := unix.Stat(data, &owner); err != nil {
		return err
	}
	dirs, err := tablespaces(data)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		entries, err := fs.ReadDir(root.FS(), ".")
		if err != nil {
			return err
		}
		for _, e := range entries {
			var s unix.Stat_t
			if !e.IsDir() || !strings.HasPrefix(e.Name(), "PG_"+major+"_") || unix.Lstat(filepath.Join(dir, e.Name()), &s) != nil || s.Uid != owner.Uid {
				continue
			}
			if err := root.RemoveAll(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// endPatience is how long processes may take to end that were killed.
const endPatience = 30 * time.Second

// endProcesses kills servers that work in the directories, and waits until they have ended.
func endProcesses(dirs ...string) error {
	for _, dir := range dirs {
		for deadline := time.Now().Add(endPatience); ; {
			pid, err := processIn(dir)
			if err != nil || pid == 0 {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d in %s does not end", pid, dir)
			}
			unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// BinOf returns the directory of the programs of the major version that the cluster in data is of.
func BinOf(ctx context.Context, data string, bins ...string) (string, error) {
	found, err := clusterMajor(data)
	if err != nil {
		return "", err
	}
	for _, bin := range bins {
		if major, err := serverMajor(ctx, bin); err == nil && major == found {
			return bin, nil
		}
	}
	return "", fmt.Errorf("%s holds a cluster of PostgreSQL %s, and the image has no server of that version: %w", data, found, ErrPermanent)
}
