// Package datadisk makes the disks on which a guest keeps what must outlive its image, the data
// disk and the volumes of its recipe: an empty ext4 file system with a journal, in a sparse file.
//
// A disk is made once, by whoever starts the guest, and never made again over an existing one:
// what is in it is the user's. The guest checks and mounts it and never formats it.
//
// A disk that is to be encrypted is made with nothing but its guestspec.NewDiskMark in it. Its key
// never leaves the guest's config disk, so the guest encrypts and formats it, and removes the mark.
//
// The file system is laid out by package image/ext4: metadata checksums, descriptors reserved for
// growth, groups that the kernel initialises when it comes to use them, a journal of at most
// 64 MiB, no blocks reserved for root, no check by number of mounts. Nothing but what differs from
// zeros is written: 64 GiB take 3 MiB.
//
// Earlier versions made disks with go-diskfs. These have no metadata checksums, a journal of
// 128 MiB, a full check by e2fsck -p at every hundredth mount, and no blocks reserved for growth:
// the kernel enlarges them by changing the layout of descriptors (meta_bg). They go on working as
// they are.
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
	// MinSize is the smallest disk in bytes: below it the journal is a large part of the disk and
	// a PostgreSQL cluster (40 MB when new) with its log (up to 1 GB) has no room to speak of.
	MinSize = 128 << 20
	// MaxSize is the largest disk in bytes, 1 TiB, as much as the largest phone holds.
	MaxSize = 1 << 40

	// sizeUnit is what 32,768 blocks of 4 KiB, one block group, take. The guest enlarges a file
	// system by whole groups.
	sizeUnit = 128 << 20

	// inodeRatio is the bytes of disk for which there is an inode: a PostgreSQL cluster has few
	// files for its size (about 1,000 in the 40 MB of a new one, and fewer for each byte later).
	inodeRatio = 32768

	// growthFactor is how many times its size a disk can become within the descriptors reserved for
	// that. All disks can become as large as MaxSize.
	growthFactor = 64
)

// Create makes the data disk of Spec.Create, of size bytes and not encrypted.
func Create(ctx context.Context, path string, size int64) error {
	return Spec{Size: size}.Create(ctx, path)
}

// Create makes the disk at path. The file is sparse, of mode 0600, complete and synced before it
// appears under its name; when path exists already, Create leaves it alone and returns an error
// that wraps fs.ErrExist. A cancelled or failed Create leaves nothing behind, and what a killed one
// leaves the next one removes. A disk that is to be encrypted holds nothing but the mark by which
// the guest knows that it may encrypt and format it.
func (s Spec) Create(ctx context.Context, path string) error {
	return create(path, s.Name(), s.Size, func(f *os.File, size int64) error {
		if !s.Encrypted {
			return format(ctx, f, size, s.label())
		}
		_, err := f.WriteAt([]byte(guestspec.NewDiskMark(s.label())), guestspec.NewDiskOffset)
		return errors.Join(err, f.Truncate(size))
	})
}

// Size returns the size in bytes that a disk gets for which so many are asked: whole 128 MiB.
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
	// Asked first to save the work; KeepExisting is what keeps an existing disk.
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

// format makes f an empty ext4 file system of size bytes. Each has a random UUID: the host may have
// several attached.
func format(ctx context.Context, f *os.File, size int64, label string) error {
	_, err := ext4.Write(ctx, f, tree.New(), FileSystem(size, label, randomUUID(), time.Now()))
	return err
}

// FileSystem returns how the file system of a disk with data is made, of a size that Size returns.
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
