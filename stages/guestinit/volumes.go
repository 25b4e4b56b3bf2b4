package guestinit

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/stages/overlay"
)

// volumes describes the recipe's volumes to sov-init.
func volumes(r *recipe.Recipe) []guestspec.Volume {
	var list []guestspec.Volume
	for _, v := range r.Volumes {
		list = append(list, guestspec.Volume{Name: v.Name, Encrypted: v.Encrypted,
			Directory: guestspec.Directory{Path: v.Path, Mode: fmt.Sprintf("%04o", v.Mode), User: v.Owner, Group: v.Group}})
	}
	return list
}

// WritableRoots returns the directories that a service without directories may write: the data
// disk, and the volumes that no service lists as its directory.
func WritableRoots(r *recipe.Recipe) []string {
	roots := []string{guestspec.DataPath}
	for _, v := range r.Volumes {
		named := slices.ContainsFunc(r.Services, func(s recipe.Service) bool {
			return slices.ContainsFunc(s.Directories, func(d recipe.Directory) bool { return d.Path == v.Path })
		})
		if !named {
			roots = append(roots, v.Path)
		}
	}
	return roots
}

// volumeMountpoints adds the mount points of volumes, with their parents. Files of the layers below
// a mount point are an error, since the volume would hide them.
func volumeMountpoints(b *overlay.Builder, below *tree.Tree, volumes []recipe.Volume) error {
	for _, v := range volumes {
		for dir := range parents(v.Path) {
			n, ok := below.Lookup(dir)
			switch {
			case !ok:
				b.Directory(dir, 0o755, 0, 0)
			case !n.IsDir():
				return fmt.Errorf("volume %s: %s in the image is not a directory: give the volume another path", v.Name, dir)
			case dir == v.Path && len(n.Entries()) > 0:
				return fmt.Errorf("volume %s: %s in the image is not empty, and the volume would hide its content: give the volume another path", v.Name, dir)
			}
		}
	}
	return nil
}

// parents yields the directories above a clean absolute path, from the top, and the path itself.
func parents(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		dir := "/"
		for part := range strings.SplitSeq(strings.TrimPrefix(name, "/"), "/") {
			if dir = path.Join(dir, part); !yield(dir) {
				return
			}
		}
	}
}
