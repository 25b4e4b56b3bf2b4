package ext4

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"
)

// ErrCorrupt is wrapped by errors about an inconsistent or malformed image: a wrong checksum, an
// offset out of bounds, a cycle in a tree.
var ErrCorrupt = errors.New("corrupt file system")

// corruptf makes an error that wraps ErrCorrupt.
func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// wrapf adds the object that was read to an error.
func wrapf(err error, format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// FS is an ext4 file system in an image. It is an [io/fs.FS], and its methods
// may be called from several goroutines at once if the image's ReadAt may.
type FS struct {
	r    io.ReaderAt
	size int64
	sb   superblock

	blockSize     int
	blocks        uint64 // s_blocks_count
	inodeSize     int
	descSize      int
	seed          uint32 // of checksums under metadata_csum
	hasCsum       bool   // metadata_csum
	groups        []groupDesc
	tableBlocks   uint64 // blocks of one group's inode table
	descsPerBlock uint32
	dirs          dirCache
}

// Option changes how [Open] treats an image.
type Option func(*openOptions)

type openOptions struct{ clean bool }

// RequireClean makes [Open] refuse an image whose journal must be replayed. Without it, such an
// image is read without its journal: the last changes may be missing, and blocks that were being
// written fail their checksum. [Super.NeedsRecovery] reports that state.
func RequireClean() Option { return func(o *openOptions) { o.clean = true } }

// Features of images that this package can read. Others are refused by name: compression,
// journal_dev, dirdata, inline_data, encrypt, casefold; also bigalloc, snapshot and verity, which
// change what is read although ext4 declares them as relevant for writers only.
const (
	readableIncompat = incompatFiletype | incompatRecover | incompatMetaBG | incompatExtents | incompat64Bit |
		incompatMMP | incompatFlexBG | incompatEAInode | incompatCsumSeed | incompatLargedir
	refusedROCompat = roCompatBigalloc | roCompatSnapshot | roCompatVerity
)

// Open reads the file system in the size bytes of r. It verifies the checksums of superblock and
// group descriptors, and that everything they refer to is within the image. The error for an
// unsupported feature names it and wraps [errors.ErrUnsupported]; that for a damaged image wraps
// [ErrCorrupt].
func Open(r io.ReaderAt, size int64, options ...Option) (*FS, error) {
	var o openOptions
	for _, option := range options {
		option(&o)
	}
	f := &FS{r: r, size: size}
	for _, step := range []func() error{f.readSuperblock, f.checkFeatures, f.setGeometry, f.readGroups} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("open ext4: %w", err)
		}
	}
	if o.clean && f.sb.FeatureIncompat&incompatRecover != 0 {
		return nil, errors.New("open ext4: the journal holds changes not yet in place: run e2fsck on the image, or mount it once, to replay it")
	}
	return f, nil
}

// readSuperblock reads and verifies the superblock itself.
func (f *FS) readSuperblock() error {
	if f.size < superblockOffset+superblockSize {
		return corruptf("image of %d bytes is too short for a superblock", f.size)
	}
	var b [superblockSize]byte
	if err := f.readAt(b[:], superblockOffset); err != nil {
		return fmt.Errorf("read superblock: %w", err)
	}
	if err := f.sb.decode(b[:]); err != nil {
		return err
	}
	if f.sb.Magic != superblockMagic {
		return corruptf("not an ext2, ext3 or ext4 image: superblock magic is %#04x, not %#04x", f.sb.Magic, superblockMagic)
	}
	if !f.sb.hasMetadataCsum() {
		return nil
	}
	if f.sb.ChecksumType != checksumCRC32C {
		return corruptf("superblock names checksum type %d, which does not exist", f.sb.ChecksumType)
	}
	if sum := superblockChecksum(b[:]); sum != f.sb.Checksum {
		return corruptf("superblock checksum is %#08x, its bytes give %#08x", f.sb.Checksum, sum)
	}
	f.hasCsum = true
	f.seed = f.sb.checksumSeed()
	return nil
}

// checkFeatures returns an error for unsupported features.
func (f *FS) checkFeatures() error {
	refused := namesOf("incompat", f.sb.FeatureIncompat&^readableIncompat, incompatNames)
	refused = append(refused, namesOf("ro_compat", f.sb.FeatureROCompat&refusedROCompat, roCompatNames)...)
	if len(refused) > 0 {
		return fmt.Errorf("the image uses %s, which cannot be read here: %w", strings.Join(refused, ", "), errors.ErrUnsupported)
	}
	return nil
}

// setGeometry validates and stores the sizes in the superblock.
func (f *FS) setGeometry() error {
	sb := &f.sb
	if sb.LogBlockSize > 6 {
		return corruptf("superblock: block size 1024<<%d is above 64 KiB", sb.LogBlockSize)
	}
	f.blockSize = minBlockSize << sb.LogBlockSize
	f.blocks = sb.blocksCount()
	f.inodeSize, f.descSize = goodOldInodeSize, groupDescSize32
	if sb.RevLevel >= revDynamic {
		f.inodeSize = int(sb.InodeSize)
	}
	if sb.FeatureIncompat&incompat64Bit != 0 {
		f.descSize = int(sb.DescSize)
		if f.descSize < groupDescSize64 || f.descSize > minBlockSize || bits.OnesCount(uint(f.descSize)) != 1 {
			return corruptf("superblock: group descriptors of %d bytes", f.descSize)
		}
	}
	firstDataBlock := uint32(0)
	if f.blockSize == minBlockSize {
		firstDataBlock = 1
	}
	bitmapBits := uint32(f.blockSize) * 8
	switch {
	case sb.FirstDataBlock != firstDataBlock:
		return corruptf("superblock: first data block is %d, not %d", sb.FirstDataBlock, firstDataBlock)
	case f.blocks <= uint64(firstDataBlock) || f.blocks > math.MaxInt64/maxBlockSize:
		return corruptf("superblock: %d blocks", f.blocks)
	case f.blocks > uint64(f.size)/uint64(f.blockSize):
		return corruptf("superblock: the file system has %d blocks of %d bytes, the image only %d bytes: it was cut short", f.blocks, f.blockSize, f.size)
	case f.inodeSize < goodOldInodeSize || f.inodeSize > f.blockSize || bits.OnesCount(uint(f.inodeSize)) != 1:
		return corruptf("superblock: inodes of %d bytes", f.inodeSize)
	case sb.BlocksPerGroup < minBlocksPerGroup || sb.BlocksPerGroup > bitmapBits || sb.BlocksPerGroup%8 != 0:
		return corruptf("superblock: groups of %d blocks", sb.BlocksPerGroup)
	case sb.InodesPerGroup == 0 || sb.InodesPerGroup > bitmapBits || sb.InodesPerGroup%8 != 0:
		return corruptf("superblock: groups of %d inodes", sb.InodesPerGroup)
	}
	f.descsPerBlock = uint32(f.blockSize / f.descSize)
	f.tableBlocks = divUp(uint64(sb.InodesPerGroup)*uint64(f.inodeSize), uint64(f.blockSize))
	groups := f.groupCount()
	if inodes := groups * uint64(sb.InodesPerGroup); inodes != uint64(sb.InodesCount) {
		return corruptf("superblock: %d inodes, but %d groups of %d", sb.InodesCount, groups, sb.InodesPerGroup)
	}
	return nil
}

// minBlocksPerGroup is mke2fs's minimum.
const minBlocksPerGroup = 256

// groupCount is the number of block groups; the last may be shorter.
func (f *FS) groupCount() uint64 {
	return divUp(f.blocks-uint64(f.sb.FirstDataBlock), uint64(f.sb.BlocksPerGroup))
}

// firstInode is the first inode number that is not reserved.
func (f *FS) firstInode() uint32 {
	if f.sb.RevLevel < revDynamic {
		return firstInode
	}
	return f.sb.FirstIno
}

// readAt fills p from the image. It is an error if the image is shorter than its stated size.
func (f *FS) readAt(p []byte, off int64) error {
	n, err := f.r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d of the image: %w", len(p), off, err)
}

// checkBlocks returns an error unless n blocks from start on can belong to a file or table: they
// must be within the image and after the superblock.
func (f *FS) checkBlocks(start, n uint64) error {
	if start <= uint64(f.sb.FirstDataBlock) || start >= f.blocks || n > f.blocks-start {
		return corruptf("blocks %d+%d lie outside the %d of the file system", start, n, f.blocks)
	}
	return nil
}

// readBlock reads the block of metadata numbered n.
func (f *FS) readBlock(n uint64) ([]byte, error) {
	if err := f.checkBlocks(n, 1); err != nil {
		return nil, err
	}
	b := make([]byte, f.blockSize)
	if err := f.readAt(b, f.blockOffset(n)); err != nil {
		return nil, err
	}
	return b, nil
}

// blockOffset returns the offset of block n in the image.
func (f *FS) blockOffset(n uint64) int64 { return int64(n) * int64(f.blockSize) }
