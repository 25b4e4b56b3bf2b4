package built

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/image/ext4"
)

// Files lists the regular files of a folder; nil when the path is a file. It leaves out the list of
// results from remote caches, which is not part of the artifact.
func Files(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != artifact.TakenFile {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// OpenImage opens an image, or the root filesystem of an out folder.
func OpenImage(path string) (*ext4.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, NotBuilt(err)
	}
	if info.IsDir() {
		path = filepath.Join(path, artifact.RootfsFile)
	}
	image, err := ext4.OpenFile(path)
	if errors.Is(err, ext4.ErrCorrupt) {
		err = fmt.Errorf("%w: name an out folder or an ext4 image", err)
	}
	return image, NotBuilt(err)
}

// NotBuilt adds advice to the error of a missing artifact. Other errors, and nil, are returned as
// they are.
func NotBuilt(err error) error {
	path := new(fs.PathError)
	switch {
	case !errors.As(err, &path):
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not the folder of a built machine: name one, or build it with `sov build`", filepath.Dir(path.Path))
	case errors.Is(err, fs.ErrNotExist):
		place := path.Path
		if base := filepath.Base(place); base == artifact.ManifestFile || base == artifact.SpecFile {
			place = filepath.Dir(place)
		}
		return fmt.Errorf("%s is neither a built machine nor an image: build one with `sov build`, or name the folder of one", place)
	}
	return err
}
