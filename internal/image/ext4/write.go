package ext4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A Target receives an image, such as an *os.File.
type Target interface {
	io.WriterAt
	// Truncate sets the length. Bytes that this adds read as zeros.
	Truncate(size int64) error
}

// Options describe a file system. The zero value is a read-only image of minimal size.
type Options struct {
	Label     string   // volume name, up to 16 bytes
	UUID      [16]byte // zero: derived from everything in the image
	BlockSize int      // in bytes, a power of two from 1024 to 65536; 0: 4096
	// Size is the length of the image in bytes; the space beyond the content is free. 0: the
	// minimum for the content.
	Size int64
	// Journal is the length of the journal in bytes, at least 1024 blocks.
	// 0: no journal.
	Journal int64
	// Inodes is the minimum number of inodes, including the eleven reserved ones. 0: as many as the
	// content needs and, with a Size, one more for each 16 KiB.
	Inodes int64
	// GrowTo is the length in bytes up to which descriptor blocks are reserved for enlarging the
	// mounted file system (EXT4_IOC_RESIZE_FS). With blocks of 4 KiB the resize inode can reserve
	// blocks for about 8 TiB. Beyond the reserved blocks, the kernel enlarges by changing the
	// layout of descriptors (meta_bg). With GrowTo, the file system also becomes read-only after an
	// error, whatever the mount options, and groups without content stay uninitialised until the
	// kernel uses them. It requires a Size. 0: no blocks are reserved.
	GrowTo int64
	// Device says that w is a block device of at least Size bytes with arbitrary content: w is not
	// truncated, nothing on it is assumed to be zero, and the kernel zeroes the unused parts of the
	// inode tables in the background after the mount.
	Device bool
	// ModTime is the creation time in the superblock. Zero: the Unix epoch.
	ModTime time.Time
	// Progress, if not nil, is called with the number of bytes written since the last call.
	Progress func(n int64)
}

// Stats describe a written file system.
type Stats struct {
	Size       int64 // of the image in bytes
	FreeBytes  int64
	BlockSize  int
	Inodes     int64
	FreeInodes int64
	UUID       [16]byte
}

const defaultBlockSize = 4096

// withDefaults returns the options with defaults for zero values, or an error for invalid ones.
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

// writable reports whether the file system will be mounted for writing.
func (o Options) writable() bool { return o.Size > 0 || o.Journal > 0 }

// Write writes a tree as an ext4 file system to w, whose previous content is lost. The same tree
// and options give the same bytes.
//
// Write computes the layout from the tree's sizes and then writes the image sequentially, reading
// each file once. Its memory grows with the tree's names and extents, not with contents. Gaps
// between the extents of a content become holes.
//
// All of an inode's times are its modification time; times before 1901 and after 2446 become the
// nearest that ext4 can store. A writable image (one with a Size or a Journal) has a lost+found
// directory.
//
// Errors name the path of the file that ext4 cannot store, that does not fit into Size
// (syscall.ENOSPC), or whose content could not be read (io.ErrUnexpectedEOF if the source is too
// short). After an error, w has a partial image.
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
