// Package datadisk creates the disks for a guest's persistent data, the data disk and the volumes
// of its recipe: an empty ext4 file system with a journal, in a sparse file.
//
// The program that starts the guest creates a disk once and never replaces an existing one, which
// contains the user's data. The guest checks and mounts the disk and never formats it.
//
// A new encrypted disk contains only its guestspec.NewDiskMark. The key is only on the guest's
// config disk, so the guest encrypts and formats the disk, and removes the mark.
//
// Package image/ext4 writes the file system: metadata checksums, reserved descriptors for growth,
// lazily initialised groups, a journal of at most 64 MiB, no blocks reserved for root, no check by
// number of mounts. Only non-zero blocks are written: a disk of 64 GiB needs 3 MiB.
//
// Earlier versions created disks with go-diskfs. These have no metadata checksums, a journal of 128
// MiB, a full check by e2fsck -p at every hundredth mount, and no reserved descriptors: the kernel
// enlarges them by changing the layout of descriptors (meta_bg). They still work.
package datadisk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/internal/image/ext4"
	"github.com/sovereign-sql/sov/internal/image/tree"
)

const (
	// MinSize is the smallest disk in bytes. On a smaller one the journal would be a large part of
	// the disk, and a PostgreSQL cluster (40 MB when new) with its WAL (up to 1 GB) would have too
	// little space.
	MinSize = 128 << 20
	// MaxSize is the largest disk in bytes: 1 TiB, the storage of the largest phones.
	MaxSize = 1 << 40

	// sizeUnit is the size of a block group, 32,768 blocks of 4 KiB. The guest enlarges a file
	// system by whole groups.
	sizeUnit = 128 << 20

	// inodeRatio is the bytes of disk per inode: a PostgreSQL cluster has few files for its size
	// (about 1,000 in the 40 MB of a new one, and fewer for each byte later).
	inodeRatio = 32768

	// growthFactor is the factor by which a disk can grow with its reserved descriptors. All disks
	// can grow up to MaxSize.
	growthFactor = 64
)

// Create makes the data disk of Spec.Create, of size bytes and not encrypted.
func Create(ctx context.Context, path string, size int64) error {
	return Spec{Size: size}.Create(ctx, path)
}

// Create makes the disk at path. The file is sparse, has mode 0600, and appears at path when it is
// complete and synced. If path exists, Create does not change it and returns an error that wraps
// fs.ErrExist. A cancelled or failed Create leaves nothing behind; the next one removes the
// leftovers of a killed one. An encrypted disk contains only the mark that allows the guest to
// encrypt and format it.
func (s Spec) Create(ctx context.Context, path string) error {
	return create(path, s.Name(), s.Size, func(f *os.File, size int64) error {
		if !s.Encrypted {
			return format(ctx, f, size, s.label())
		}
		_, err := f.WriteAt([]byte(guestspec.NewDiskMark(s.label())), guestspec.NewDiskOffset)
		return errors.Join(err, f.Truncate(size))
	})
}

// Size returns the size of a disk for a requested size in bytes, rounded down to whole 128 MiB.
func Size(size int64) (int64, error) {
	size -= size % sizeUnit
	if size < MinSize || size > MaxSize {
		return 0, fmt.Errorf("%d bytes are not between %d (128 MiB) and %d (1 TiB)", size, int64(MinSize), int64(MaxSize))
	}
	return size, nil
}

func create(path, name string, size int64, fill func(f *os.File, size int64) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create %s %s: %w", name, path, err)
		}
	}()
	size, err = Size(size)
	if err != nil {
		return err
	}
	// This check only saves work; KeepExisting protects an existing disk.
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	f, err := durable.Create(path, 0o600, durable.KeepExisting())
	if err == nil {
		defer f.Close()
		err = fill(f.File, size)
	}
	if err == nil {
		err = f.Commit()
	}
	if place := new(fs.PathError); errors.As(err, &place) && place.Path == path {
		return place.Err // this function's error names the path already
	}
	return err
}

// format writes an empty ext4 file system of size bytes to f, with a random UUID, because a host
// may have several disks attached.
func format(ctx context.Context, f *os.File, size int64, label string) error {
	_, err := ext4.Write(ctx, f, tree.New(), FileSystem(size, label, randomUUID(), time.Now()))
	return err
}

// FileSystem returns the options of a data disk's file system. size must come from Size.
func FileSystem(size int64, label string, uuid [16]byte, made time.Time) ext4.Options {
	return ext4.Options{
		Label:   label,
		UUID:    uuid,
		Size:    size,
		Journal: ext4.JournalSize(size),
		Inodes:  size / inodeRatio,
		GrowTo:  max(growthFactor*size, MaxSize),
		ModTime: made,
	}
}

// randomUUID makes a UUID of version 4 (RFC 9562, section 5.4).
func randomUUID() (uuid [16]byte) {
	rand.Read(uuid[:]) // never fails
	uuid[6] = uuid[6]&0x0F | 0x40
	uuid[8] = uuid[8]&0x3F | 0x80
	return uuid
}
