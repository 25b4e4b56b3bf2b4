package inspect

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/ext4"
)

// A Link is a symbolic link.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// DanglingLinks returns the dangling links of an image, sorted by path. Links to file systems that
// the guest mounts at run time, such as /run and /proc, do not count.
func DanglingLinks(filesystem *ext4.FS) ([]Link, error) {
	var links []Link
	err := fs.WalkDir(filesystem, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink == 0 {
			return err
		}
		_, err = filesystem.Stat(name)
		if err == nil || leadsToMount(filesystem, name) {
			return nil
		}
		target, err := filesystem.ReadLink(name)
		if err == nil {
			links = append(links, Link{"/" + name, target})
		}
		return err
	})
	return links, err
}

// maxLinks bounds the length of a chain of links, as in Linux.
const maxLinks = 40

// leadsToMount reports whether a chain of links leads to a file system that the guest mounts at run
// time.
func leadsToMount(filesystem *ext4.FS, name string) bool {
	for range maxLinks {
		target, err := filesystem.ReadLink(name)
		if err != nil {
			// A folder on the path may be a link.
			if dir := path.Dir(name); errors.Is(err, fs.ErrNotExist) && dir != "." {
				return leadsToMount(filesystem, dir)
			}
			return false
		}
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(name), target)
		}
		target = path.Clean(target)
		if recipe.MountedOver(target) != "" {
			return true
		}
		name = strings.TrimPrefix(target, "/")
	}
	return false
}
