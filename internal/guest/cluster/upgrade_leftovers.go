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
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/contract/guestapi"
	"github.com/sovereign-sql/sov/internal/durable"
)

// settle cleans up after an upgrade of the cluster in data. After an interrupted upgrade it removes
// the new cluster; after a completed one it renames the old cluster to its final name and removes
// the working directory. It reports whether it found anything.
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
	case errors.Is(err, fs.ErrNotExist): // the upgrade had not begun, or the cluster is already renamed
	case err == nil && olderThan(inside, current):
		kept := KeptDir(data, inside)
		if err := removeCluster(kept); err != nil { // of a previous upgrade
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

// dropUpgrade removes the folder of an upgrade, and its new cluster's files in the tablespaces of
// the cluster in data.
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

// keptDirs returns the directories of the kept clusters.
func keptDirs(data string) []string {
	dirs, _ := filepath.Glob(KeptDir(data, "*")) // the pattern is well formed: see pathForm
	return dirs
}

// Kept caches the sizes of kept clusters, which never change.
type Kept struct {
	mu    sync.Mutex
	sizes map[string]int64 // by directory
}

// List returns the kept clusters beside the one in data.
func (k *Kept) List(data string) (list []guestapi.KeptCluster) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.sizes
	k.sizes = map[string]int64{}
	for _, dir := range keptDirs(data) {
		size, ok := known[dir]
		if !ok {
			var err error
			if size, err = clusterSize(dir); err != nil { // it is half removed
				size = 0
			}
		}
		k.sizes[dir] = size
		list = append(list, guestapi.KeptCluster{Major: strings.TrimPrefix(dir, KeptDir(data, "")), Path: dir, Size: size})
	}
	return list
}

// Forget removes the kept clusters and returns their directories.
func Forget(data string) (removed []string, err error) {
	for _, dir := range keptDirs(data) {
		if err := removeCluster(dir); err != nil {
			return removed, fmt.Errorf("remove %s: %w", dir, err)
		}
		removed = append(removed, dir)
	}
	return removed, nil
}

// removeCluster removes a cluster and its files in tablespaces.
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

// tablespaces returns the directories of a cluster's tablespaces outside its data directory.
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

// spacePrefix returns the start of the name of the folder that a major version has in each
// tablespace: PG_MAJOR_CATALOG (PostgreSQL's TABLESPACE_VERSION_DIRECTORY).
func spacePrefix(major string) string { return "PG_" + major + "_" }

// dropTablespaces removes the files of a major version in the tablespaces of the cluster in data,
// see spacePrefix. The server's user could have linked a tablespace to any directory, so an os.Root
// limits the removal, and only folders of the server's user are removed.
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
			if !e.IsDir() || !strings.HasPrefix(e.Name(), spacePrefix(major)) || unix.Lstat(filepath.Join(dir, e.Name()), &s) != nil || s.Uid != owner.Uid {
				continue
			}
			if err := root.RemoveAll(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// endPatience is how long killed processes may take to end.
const endPatience = 30 * time.Second

// endProcesses kills servers that run in the directories and waits for their end.
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

// BinOf returns the one of bins whose programs have the major version of the cluster in data. Some
// of bins may be empty.
func BinOf(ctx context.Context, data string, bins ...string) (string, error) {
	found, err := clusterMajor(data)
	if err != nil {
		return "", err
	}
	for _, bin := range bins {
		if bin == "" {
			continue
		}
		if major, err := serverMajor(ctx, bin); err == nil && major == found {
			return bin, nil
		}
	}
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	return "", fmt.Errorf("%s holds a cluster of PostgreSQL %s, and the image has no server of that version: %w", data, found, ErrPermanent)
}
