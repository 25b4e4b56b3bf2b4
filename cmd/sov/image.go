package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/image/ext4"
)

// rootfsName is the root filesystem's image in an out folder.
const rootfsName = "rootfs.img"

func isRootfs(name string) bool { return name == rootfsName }

// openImage opens an image, or the root filesystem of an out folder.
func openImage(path string) (*ext4.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, notBuilt(err)
	}
	if info.IsDir() {
		path = filepath.Join(path, rootfsName)
	}
	image, err := ext4.OpenFile(path)
	return image, notBuilt(err)
}

// notBuilt adds to a missing artifact's error how one comes by it.
func notBuilt(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: build it with `sov build`, or name an out folder or an image", err)
	}
	return err
}
