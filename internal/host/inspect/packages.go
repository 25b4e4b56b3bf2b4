package inspect

import (
	"github.com/sovereign-sql/sov/internal/image/apk"
	"github.com/sovereign-sql/sov/internal/image/ext4"
)

// A Package is an installed Alpine package.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Size    int64  `json:"installed_size"` // bytes
	License string `json:"license,omitempty"`
	Origin  string `json:"origin,omitempty"` // the source package
}

// Packages lists the installed packages of a root file system.
func Packages(filesystem *ext4.FS) ([]Package, error) {
	t, err := filesystem.Tree()
	if err != nil {
		return nil, err
	}
	installed, err := apk.Installed(t)
	if err != nil {
		return nil, err
	}
	list := []Package{}
	for _, p := range installed {
		list = append(list, Package{
			Name: p.Name, Version: p.Version, Arch: p.Arch, Size: p.InstalledSize, License: p.License, Origin: p.Origin,
		})
	}
	return list, nil
}
