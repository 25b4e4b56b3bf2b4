package inspect

import (
	"path"

	"github.com/sovereign-sql/sov/internal/image/ext4"
)

// A Branch is a directory tree.
type Branch struct {
	Name     string    `json:"name"`
	Size     int64     `json:"size"` // bytes of content, for a directory of everything below it
	Dir      bool      `json:"dir,omitempty"`
	Branches []*Branch `json:"entries,omitempty"`
}

// Measure returns the tree at a path of a file system, with the sizes summed.
func Measure(filesystem *ext4.FS, name string) (*Branch, error) {
	info, err := filesystem.Lstat(name)
	if err != nil {
		return nil, err
	}
	b := &Branch{Name: path.Base(path.Join("/", name)), Dir: info.IsDir()}
	if !info.IsDir() {
		if info.Mode().IsRegular() {
			b.Size = info.Size()
		}
		return b, nil
	}
	entries, err := filesystem.ReadDir(name)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		below, err := Measure(filesystem, path.Join(name, e.Name()))
		if err != nil {
			return nil, err
		}
		b.Size += below.Size
		b.Branches = append(b.Branches, below)
	}
	return b, nil
}
