package group

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sovereign-sql/sov/internal/durable"
)

// Archive returns the path of a machine's file in a group's backup.
func Archive(folder, machine string, encrypted bool) string {
	path := filepath.Join(folder, machine+".zip")
	if encrypted {
		path += ".age"
	}
	return path
}

// Kept returns the group without the machines that have no data to back up.
func (g *Group) Kept() (*Group, error) {
	kept := *g
	kept.Machines = slices.DeleteFunc(slices.Clone(g.Machines), func(m Machine) bool { return !m.Backup })
	if len(kept.Machines) == 0 {
		return nil, fmt.Errorf("%s: no machine of the group has PostgreSQL or a service with a backup in its recipe", g.File)
	}
	return &kept, nil
}

// MakeFolder creates the folder for a backup of the group, if it does not exist. A folder with a
// backup is rejected: it would mix two points in time.
func (g *Group) MakeFolder(folder string) error {
	if err := durable.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("back up %s: %w", g.Name, err)
	}
	for _, name := range g.Names() {
		if path, err := archive(folder, name); err == nil {
			return fmt.Errorf("back up %s: %s is there already: name another folder", g.Name, path)
		}
	}
	return nil
}

// Archives returns the files of a backup, one for each machine, in their order.
func (g *Group) Archives(folder string) (paths []string, err error) {
	for _, name := range g.Names() {
		path, err := archive(folder, name)
		if err != nil {
			return nil, fmt.Errorf("restore %s: %w: the backup of the group is not whole", g.Name, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// archive finds the backup of a machine in a folder.
func archive(folder, name string) (string, error) {
	path := Archive(folder, name, true)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	path = Archive(folder, name, false)
	_, err := os.Stat(path)
	return path, err
}
