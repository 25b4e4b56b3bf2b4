// Package datadisk makes the disk on which a guest keeps what must outlive its image: an empty
// ext4 file system with a journal, in a sparse file.
//
// The disk is made once, by whoever starts the guest, and never made again over an existing one:
// what is in it is the user's. The guest checks and mounts it and never formats it.
//
// The file system is laid out by go-diskfs, which needs neither root nor mke2fs. What is
// particular to its layout (version 1.9.4): a journal of 1/32 of the disk, at least 4 MiB and at
// most 128 MiB; no metadata checksums; no lost+found before e2fsck needs one; a full check by
// e2fsck -p at every hundredth mount; no blocks reserved for root. Its default of continuing after
// an error is overridden by the guest's mount options. Its resize_inode is not sound (e2fsck asks
// to recreate it), so the feature is off; the kernel grows the file system without, by giving it meta_bg.
package datadisk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/ext4"

	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/durable"
)

const (
	// MinSize is the smallest disk in bytes: below it the journal is a large part of the disk and
	// a PostgreSQL cluster (40 MB when new) with its log (up to 1 GB) has no room to speak of.
	MinSize = 128 << 20
	// MaxSize is the largest disk in bytes, 1 TiB, as much as the largest phone holds. It is 45 s of
	// work for go-diskfs (measured on 2 cores of x86-64), 64 GiB are 3 s, 4 GiB 0.2 s.
	MaxSize = 1 << 40

	// sizeUnit is what 32,768 blocks of 4 KiB, one block group, take. go-diskfs puts an inode table
	// into the last group even when that is too small for it, so all groups are to be whole.
	sizeUnit = 128 << 20

	// inodeRatio is the bytes of disk for which there is an inode: a PostgreSQL cluster has few
	// files for its size (about 1,000 in the 40 MB of a new one, and fewer for each byte later).
	inodeRatio = 32768
)

// Create makes a data disk of size bytes, rounded down to whole 128 MiB, at path. The file is sparse,
// of mode 0600, complete and synced before it appears under its name; when path exists already,
// Create leaves it alone and returns an error that wraps fs.ErrExist. A cancelled or failed
// Create leaves nothing behind, and what a killed one leaves the next one removes.
func Create(ctx context.Context, path string, size int64) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create data disk %s: %w", path, err)
		}
	}()
	size -= size % sizeUnit
	if size < MinSize || size > MaxSize {
		return fmt.Errorf("%d bytes are not between %d (128 MiB) and %d (1 TiB)", size, int64(MinSize), int64(MaxSize))
	}
	// Asked first to save the work; KeepExisting is what keeps an existing disk.
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	f, err := durable.Create(path, 0o600, durable.KeepExisting())
	if err == nil {
		defer f.Close()
		err = format(ctx, f.File, size)
	}
	if err == nil {
		err = f.Commit()
	}
	if place := new(fs.PathError); errors.As(err, &place) && place.Path == path {
		return place.Err // this function's error names the path already
	}
	return err
}

// format makes f an empty ext4 file system of size bytes.
func format(ctx context.Context, f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	sparse := &sparseFile{File: f, ctx: ctx, written: map[int64]bool{}}
	_, err := ext4.Create(file.New(sparse, false), size, 0, 512, &ext4.Params{
		VolumeName:      guestspec.DataLabel,
		SectorsPerBlock: 8, // 4 KiB, the memory page of every guest, for small disks too
		InodeRatio:      inodeRatio,
		Features: []ext4.FeatureOpt{
			ext4.WithFeatureDirectoryIndices(true),
			ext4.WithFeatureReservedGDTBlocksForExpansion(false),
		},
	})
	if sparse.err != nil { // go-diskfs does not wrap what its backend says
		return fmt.Errorf("format as ext4: %w", sparse.err)
	}
	if err != nil {
		return fmt.Errorf("format as ext4: %w", err)
	}
	return nil
}
