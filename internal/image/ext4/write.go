package ext4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A Target is what an image is written to; *os.File is one.
type Target interface {
	io.WriterAt
	// Truncate sets the length. Bytes that this adds read as zeros.
	Truncate(size int64) error
}

// Options say what a file system is to be like. The zero value is an image
// for reading, as small as its content.
type Options struct {
	Label     string   // volume name, up to 16 bytes
	UUID      [16]byte // zero: derived from everything in the image
	BlockSize int      // in bytes, a power of two from 1024 to 65536; 0: 4096
	// Size is the length of the image in bytes, what is left of it being free
	// for use once mounted. 0: no more than the content takes.
	Size int64
	// Journal is the length of the journal in bytes, at least 1024 blocks.
	// 0: no journal.
	Journal int64
	// Inodes is how many there are at least, with the eleven that are
	// reserved. 0: as many as the content takes and, with a Size, one more
	// for each 16 KiB.
	Inodes int64
	// GrowTo is the length in bytes up to which descriptor blocks are reserved, so that the kernel
	// can enlarge the file system while it is mounted (EXT4_IOC_RESIZE_FS) as it usually does. The
	// resize inode holds as many as lead to about 8 TiB with blocks of 4 KiB. The kernel enlarges
	// further, and where there are none reserved, by changing the layout of descriptors (meta_bg).
	// Such a file system also stops being written to after an error, whatever the mount options,
	// and its groups without content are initialised by the kernel when it comes to use them.
	// It needs a Size. 0: none are reserved.
	GrowTo int64
	// Device says that w is a block device of at least Size bytes, which may hold anything: w is
	// not truncated, nothing on it is taken for zeros, and the kernel zeroes the unused
	// parts of the inode tables in the background while it is mounted.
	Device bool
	// ModTime is when the file system says it was made. Zero: the Unix epoch.
	ModTime time.Time
	// Progress, if set, is told the bytes written since it was last called.
	Progress func(n int64)
}

// Stats describe a file system that was written.
type Stats struct {
	Size       int64 // of the image in bytes
	FreeBytes  int64
	BlockSize  int
	Inodes     int64
	FreeInodes int64
	UUID       [16]byte
}

const defaultBlockSize = 4096

// withDefaults returns the options with zero values filled in, or what is
// wrong with them.
func (o Options) withDefaults() (Options, error) {
	if o.BlockSize == 0 {
		o.BlockSize = defaultBlockSize
	}
	if o.ModTime.IsZero() {
		o.ModTime = time.Unix(0, 0)
	}
	switch bs := o.BlockSize; {
	case bs < minBlockSize || bs > maxBlockSize || bs&(bs-1) != 0:
		return o, fmt.Errorf("block size %d is not a power of two from %d to %d", bs, minBlockSize, maxBlockSize)
	case len(o.Label) > len(superblock{}.VolumeName):
		return o, fmt.Errorf("label %q has more than the %d bytes there are for it", o.Label, len(superblock{}.VolumeName))
	case o.Size < 0 || o.Journal < 0 || o.Inodes < 0 || o.GrowTo < 0:
		return o, errors.New("size, journal, inodes and the size to grow to cannot be negative")
	case o.Size == 0 && (o.GrowTo > 0 || o.Device):
		return o, errors.New("a file system that grows or is on a device needs a size")
	case o.GrowTo > 0 && o.Size/int64(bs) > maxResizeBlocks:
		return o, fmt.Errorf("%d bytes are more than the %d blocks that a file system with a resize inode can have", o.Size, int64(maxResizeBlocks))
	case o.Journal > 0 && o.Journal/int64(bs) < journalMinBlocks:
		return o, fmt.Errorf("a journal needs at least %d blocks, %d bytes", journalMinBlocks, journalMinBlocks*bs)
	}
	return o, nil
}

// writable reports whether the image is made for being written to once mounted.
func (o Options) writable() bool { return o.Size > 0 || o.Journal > 0 }

// Write lays a tree out as an ext4 file system in w, whose former content is
// lost. The same tree and options give the same bytes.
//
// The layout is computed from the tree's sizes alone; then the image is
// written from front to back, each file's bytes being read once. Memory is
// taken for the tree's names and extents, never for contents. Gaps between the
// extents of a content become holes.
//
// All of an inode's times are its modification time; times before 1901 and
// after 2446 become the nearest that ext4 can hold. A lost+found directory is
// added if the image is made for being written to (it has a Size or a Journal).
//
// Errors name the path concerned: one that ext4 cannot hold, one for which
// the Size leaves no room (syscall.ENOSPC), one whose content could not be read
// (io.ErrUnexpectedEOF where the source ends early). After an error, w holds
// a part of an image.
func Write(ctx context.Context, w Target, t *tree.Tree, o Options) (Stats, error) {
	stats, err := write(ctx, w, t, o)
	if err != nil {
		return Stats{}, fmt.Errorf("write ext4: %w", err)
	}
	return stats, nil
}

func write(ctx context.Context, w Target, t *tree.Tree, o Options) (Stats, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Stats{}, err
	}
	p, err := newPlan(t, o)
	if err != nil {
		return Stats{}, err
	}
	l, err := p.layOut()
	if err != nil {
		return Stats{}, err
	}
	iw := newImageWriter(ctx, w, p, l)
	if err := iw.write(); err != nil {
		return Stats{}, err
	}
	return Stats{
		Size:       l.imageSize,
		FreeBytes:  int64(l.freeBlocks()) * int64(o.BlockSize),
		BlockSize:  o.BlockSize,
		Inodes:     int64(l.inodes()),
		FreeInodes: int64(l.inodes()) - int64(p.lastInode()),
		UUID:       iw.sb.UUID,
	}, nil
}
