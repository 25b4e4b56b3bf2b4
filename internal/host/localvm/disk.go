package localvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/host/qemu"
)

// wholeDisk returns the machine's copy of the artifact's disk image, which also holds its data. It
// is made on the first call. A copy of an earlier build is kept, enlarged to the size of the image,
// and notice is called.
func (s *state) wholeDisk(ctx context.Context, dir string, notice func(format string, args ...any)) (qemu.Disk, error) {
	built, path := filepath.Join(dir, artifact.DiskFile), s.path(artifact.DiskFile)
	image, err := os.Open(built)
	if errors.Is(err, fs.ErrNotExist) {
		return qemu.Disk{}, fmt.Errorf("%s does not exist: `sov build` makes it with --format disk", built)
	}
	if err != nil {
		return qemu.Disk{}, err
	}
	defer image.Close()
	of, err := image.Stat()
	if err != nil {
		return qemu.Disk{}, err
	}
	copied, err := os.Stat(path)
	switch {
	case err == nil:
		if copied.ModTime().Before(of.ModTime()) && notice != nil {
			notice("%s may belong to an earlier build: it is used because of its data; remove it to start with an empty disk", path)
		}
		if copied.Size() < of.Size() {
			err = os.Truncate(path, of.Size())
		}
	case errors.Is(err, fs.ErrNotExist):
		if err = copyDisk(ctx, path, image, of.Size()); err != nil {
			err = fmt.Errorf("copy %s: %w", built, err)
		}
	}
	return qemu.Disk{Path: path}, err
}

// copyDisk copies an image as a sparse file.
func copyDisk(ctx context.Context, path string, from io.ReaderAt, size int64) error {
	f, err := durable.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	b, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(b)) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		b = b[:min(int64(len(b)), size-at)]
		if n, err := from.ReadAt(b, at); n < len(b) {
			return err
		}
		if string(b) == string(zeros[:len(b)]) {
			continue
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return f.Commit()
}
