package recipe

import (
	"path"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// A Backup describes how `sov backup` saves a service's data, and how `sov restore` restores it.
type Backup struct {
	Command []string `yaml:"command"` // writes the data to its standard output while the service runs
	Restore []string `yaml:"restore"` // reads what Command wrote from its standard input, likewise
	// Paths are files and directories. Without Command the service is stopped while they are read.
	Paths []string `yaml:"paths"`
}

// backup checks the backup key of a service.
func (c *checker) backup(at string, i int) {
	s := c.Services[i]
	b := s.Backup
	if b == nil {
		return
	}
	at += ".backup"
	c.require(len(b.Command) > 0 || len(b.Paths) > 0, at, "give command and restore, or paths")
	c.require((len(b.Command) > 0) == (len(b.Restore) > 0), at, "give both command and restore: what command writes is read by restore")
	for key, argv := range map[string][]string{".command": b.Command, ".restore": b.Restore} {
		c.require(len(argv) == 0 || path.IsAbs(argv[0]), at+key, "must begin with the absolute path of a program")
	}
	for j, name := range b.Paths {
		at := strictyaml.Index(at+".paths", j)
		if !cleanAbsolute(name) {
			c.doc.Faultf(at, "%q is not a clean absolute path", name)
			continue
		}
		// The directories of an image are known only after it was read.
		own := s.Command.OfImage() && s.Directories == nil
		for _, d := range s.Directories {
			own = own || c.outlives(d.Path) && below(name, d.Path)
		}
		c.require(own, at, "%q is not in a directory below /data or on a volume that the service names under directories", name)
		v := c.volumeAt(name)
		c.require(v == nil || v.Path != name, at, "%q is the whole volume: list files or directories on it", name)
		for k, other := range c.Services {
			for _, d := range other.Directories {
				shared := slices.ContainsFunc(s.Directories, func(own Directory) bool { return own.Path == d.Path })
				c.require(shared || !below(d.Path, name), at, "%q contains %q, which belongs to service %s: list the other files or directories", name, d.Path, other.Name)
			}
			if other.Backup == nil || k > i {
				continue
			}
			for l, saved := range other.Backup.Paths {
				if k == i && l >= j {
					break
				}
				c.require(!below(name, saved) && !below(saved, name), at, "%q is saved already, by %q of service %s", name, saved, other.Name)
			}
		}
	}
}

// below reports whether the path inner is outer or in it.
func below(inner, outer string) bool { return inner == outer || strings.HasPrefix(inner, outer+"/") }
