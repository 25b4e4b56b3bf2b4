package ext4

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// le is the byte order of everything but the journal.
var le = binary.LittleEndian

// Fixed positions and sizes.
const (
	superblockOffset = 1024 // from the start of the image, whatever the block size
	superblockSize   = 1024

	minBlockSize = 1 << 10
	maxBlockSize = 1 << 16

	groupDescSize32 = 32 // without the 64bit feature
	groupDescSize64 = 64

	goodOldInodeSize  = 128 // all of an ext2 inode; the extra fields follow
	inodeExtraSize    = 32  // i_extra_isize that covers every field this package knows
	defaultInodeSize  = 256
	inodeBlockSize    = 60 // i_block
	inodeSectorSize   = 512
	fastSymlinkMax    = inodeBlockSize - 1 // the kernel wants room for a NUL
	maxNameLen        = 255
	maxSymlinkLen     = 4095 // PATH_MAX less its NUL
	maxBlocksPerGroup = 65528
)

// Magic numbers.
const (
	superblockMagic = 0xEF53
	extentMagic     = 0xF30A
	xattrMagic      = 0xEA020000
	journalMagic    = 0xC03B3998
)

// Inodes with a fixed number.
const (
	inodeBadBlocks  = 1
	inodeRoot       = 2
	inodeUserQuota  = 3
	inodeGroupQuota = 4
	inodeBootLoader = 5
	inodeUndelete   = 6
	inodeResize     = 7
	inodeJournal    = 8
	firstInode      = 11 // the first that is not reserved, and by custom lost+found
)

// Values of s_state.
const (
	stateValid   = 1 << 0 // cleanly unmounted
	stateErrors  = 1 << 1 // errors detected
	stateOrphans = 1 << 2 // orphans being recovered
)

// Values of s_errors: what the kernel does on finding an error.
const (
	errorsContinue  = 1
	errorsRemountRO = 2
	errorsPanic     = 3
)

// Values of s_flags.
const (
	flagSignedHash   = 1 << 0 // directory hashes take names as signed chars
	flagUnsignedHash = 1 << 1
	flagTestFS       = 1 << 2
)

// Values of s_default_mount_opts.
const (
	defaultMountXattrUser = 1 << 2
	defaultMountACL       = 1 << 3
)

const (
	osLinux        = 0 // s_creator_os
	revDynamic     = 1 // s_rev_level: inode size and features are stated
	checksumCRC32C = 1 // s_checksum_type
)

// Values of bg_flags.
const (
	groupInodeUninit = 1 << 0 // inode bitmap and table not initialised
	groupBlockUninit = 1 << 1 // block bitmap not initialised
	groupInodeZeroed = 1 << 2 // inode table zeroed
)

// Values of i_flags.
const (
	inodeFlagSync       = 0x8
	inodeFlagImmutable  = 0x10
	inodeFlagAppend     = 0x20
	inodeFlagEncrypt    = 0x800
	inodeFlagIndex      = 0x1000 // hashed directory
	inodeFlagHugeFile   = 0x40000
	inodeFlagExtents    = 0x80000
	inodeFlagVerity     = 0x100000
	inodeFlagEAInode    = 0x200000 // holds the value of an extended attribute
	inodeFlagInlineData = 0x10000000
	inodeFlagCasefold   = 0x40000000
)

// File type and permission bits of i_mode; the values are Linux's st_mode.
const (
	modeTypeMask  = 0o170000
	modeSocket    = 0o140000
	modeSymlink   = 0o120000
	modeRegular   = 0o100000
	modeBlock     = 0o060000
	modeDirectory = 0o040000
	modeChar      = 0o020000
	modeFIFO      = 0o010000
	modePermMask  = 0o007777
)

// File types of directory entries.
const (
	fileTypeUnknown   = 0
	fileTypeRegular   = 1
	fileTypeDirectory = 2
	fileTypeChar      = 3
	fileTypeBlock     = 4
	fileTypeFIFO      = 5
	fileTypeSocket    = 6
	fileTypeSymlink   = 7
	fileTypeTail      = 0xDE // not an entry: the checksum at the end of a directory block
)

// fileTypeOf gives the directory entry type of an inode's mode.
func fileTypeOf(mode uint16) uint8 {
	switch mode & modeTypeMask {
	case modeRegular:
		return fileTypeRegular
	case modeDirectory:
		return fileTypeDirectory
	case modeChar:
		return fileTypeChar
	case modeBlock:
		return fileTypeBlock
	case modeFIFO:
		return fileTypeFIFO
	case modeSocket:
		return fileTypeSocket
	case modeSymlink:
		return fileTypeSymlink
	}
	return fileTypeUnknown
}

// superblock is struct ext4_super_block field by field, so that
// encoding/binary reads and writes it whole. A file system has few of them.
type superblock struct {
	InodesCount       uint32
	BlocksCountLo     uint32
	RBlocksCountLo    uint32 // reserved for root
	FreeBlocksCountLo uint32
	FreeInodesCount   uint32
	FirstDataBlock    uint32 // 1 with 1 KiB blocks, else 0
	LogBlockSize      uint32 // block size is 1024 << this
	LogClusterSize    uint32
	BlocksPerGroup    uint32
	ClustersPerGroup  uint32
	InodesPerGroup    uint32
	Mtime             uint32 // last mount
	Wtime             uint32 // last write
	MntCount          uint16
	MaxMntCount       uint16 // 0xFFFF: never check because of it
	Magic             uint16
	State             uint16
	Errors            uint16
	MinorRevLevel     uint16
	Lastcheck         uint32
	Checkinterval     uint32
	CreatorOS         uint32
	RevLevel          uint32
	DefResuid         uint16
	DefResgid         uint16

	FirstIno             uint32
	InodeSize            uint16
	BlockGroupNr         uint16 // of the group this copy stands in
	FeatureCompat        uint32
	FeatureIncompat      uint32
	FeatureROCompat      uint32
	UUID                 [16]byte
	VolumeName           [16]byte
	LastMounted          [64]byte
	AlgorithmUsageBitmap uint32
	PreallocBlocks       uint8
	PreallocDirBlocks    uint8
	ReservedGDTBlocks    uint16

	JournalUUID      [16]byte
	JournalInum      uint32
	JournalDev       uint32
	LastOrphan       uint32
	HashSeed         [4]uint32
	DefHashVersion   uint8
	JnlBackupType    uint8 // 1: JnlBlocks is a copy of the journal inode's i_block and size
	DescSize         uint16
	DefaultMountOpts uint32
	FirstMetaBG      uint32
	MkfsTime         uint32
	JnlBlocks        [17]uint32

	BlocksCountHi        uint32
	RBlocksCountHi       uint32
	FreeBlocksCountHi    uint32
	MinExtraIsize        uint16
	WantExtraIsize       uint16
	Flags                uint32
	RAIDStride           uint16
	MMPInterval          uint16
	MMPBlock             uint64
	RAIDStripeWidth      uint32
	LogGroupsPerFlex     uint8
	ChecksumType         uint8
	EncryptionLevel      uint8
	ReservedPad          uint8
	KbytesWritten        uint64
	SnapshotInum         uint32
	SnapshotID           uint32
	SnapshotRBlocksCount uint64
	SnapshotList         uint32
	ErrorCount           uint32
	FirstErrorTime       uint32
	FirstErrorIno        uint32
	FirstErrorBlock      uint64
	FirstErrorFunc       [32]byte
	FirstErrorLine       uint32
	LastErrorTime        uint32
	LastErrorIno         uint32
	LastErrorLine        uint32
	LastErrorBlock       uint64
	LastErrorFunc        [32]byte
	MountOpts            [64]byte
	UsrQuotaInum         uint32
	GrpQuotaInum         uint32
	OverheadBlocks       uint32
	BackupBGs            [2]uint32 // groups with copies under sparse_super2
	EncryptAlgos         [4]uint8
	EncryptPWSalt        [16]byte
	LPFIno               uint32 // lost+found
	PrjQuotaInum         uint32
	ChecksumSeed         uint32 // crc32c(~0, UUID), if metadata_csum_seed
	WtimeHi              uint8
	MtimeHi              uint8
	MkfsTimeHi           uint8
	LastcheckHi          uint8
	FirstErrorTimeHi     uint8
	LastErrorTimeHi      uint8
	FirstErrorErrcode    uint8
	LastErrorErrcode     uint8
	Encoding             uint16
	EncodingFlags        uint16
	OrphanFileInum       uint32
	Reserved             [94]uint32
	Checksum             uint32 // crc32c of all before it, if metadata_csum
}

// superblockChecksumOffset is where s_checksum stands.
const superblockChecksumOffset = superblockSize - 4

// decode reads the superblock from its 1024 bytes.
func (sb *superblock) decode(b []byte) error {
	if _, err := binary.Decode(b, le, sb); err != nil {
		return fmt.Errorf("decode superblock: %w", err)
	}
	return nil
}

// encode writes the superblock to 1024 bytes, Checksum as it stands.
func (sb *superblock) encode(b []byte) error {
	if _, err := binary.Encode(b, le, sb); err != nil {
		return fmt.Errorf("encode superblock: %w", err)
	}
	return nil
}

func (sb *superblock) blocksCount() uint64 {
	return sb.join64(sb.BlocksCountLo, sb.BlocksCountHi)
}

func (sb *superblock) freeBlocksCount() uint64 {
	return sb.join64(sb.FreeBlocksCountLo, sb.FreeBlocksCountHi)
}

// join64 puts a split block count together; the high half only means
// something with the 64bit feature.
func (sb *superblock) join64(lo, hi uint32) uint64 {
	if sb.FeatureIncompat&incompat64Bit == 0 {
		hi = 0
	}
	return uint64(hi)<<32 | uint64(lo)
}

// hasMetadataCsum reports whether all metadata carries crc32c checksums.
func (sb *superblock) hasMetadataCsum() bool {
	return sb.FeatureROCompat&roCompatMetadataCsum != 0
}

// groupDesc is struct ext4_group_desc with its halves joined.
type groupDesc struct {
	BlockBitmap         uint64 // block numbers
	InodeBitmap         uint64
	InodeTable          uint64
	FreeBlocksCount     uint32
	FreeInodesCount     uint32
	UsedDirsCount       uint32
	Flags               uint16
	ExcludeBitmap       uint64
	BlockBitmapChecksum uint32 // the low 16 bits alone in a 32-byte descriptor
	InodeBitmapChecksum uint32
	ItableUnused        uint32 // inodes at the table's end never used
	Checksum            uint16
}

// groupDescChecksumOffset is where bg_checksum stands.
const groupDescChecksumOffset = 0x1E

// decode reads a descriptor of 32 or, when b is at least 64 bytes, 64 bytes.
func (g *groupDesc) decode(b []byte) {
	*g = groupDesc{
		BlockBitmap:         uint64(le.Uint32(b[0x00:])),
		InodeBitmap:         uint64(le.Uint32(b[0x04:])),
		InodeTable:          uint64(le.Uint32(b[0x08:])),
		FreeBlocksCount:     uint32(le.Uint16(b[0x0C:])),
		FreeInodesCount:     uint32(le.Uint16(b[0x0E:])),
		UsedDirsCount:       uint32(le.Uint16(b[0x10:])),
		Flags:               le.Uint16(b[0x12:]),
		ExcludeBitmap:       uint64(le.Uint32(b[0x14:])),
		BlockBitmapChecksum: uint32(le.Uint16(b[0x18:])),
		InodeBitmapChecksum: uint32(le.Uint16(b[0x1A:])),
		ItableUnused:        uint32(le.Uint16(b[0x1C:])),
		Checksum:            le.Uint16(b[groupDescChecksumOffset:]),
	}
	if len(b) < groupDescSize64 {
		return
	}
	g.BlockBitmap |= uint64(le.Uint32(b[0x20:])) << 32
	g.InodeBitmap |= uint64(le.Uint32(b[0x24:])) << 32
	g.InodeTable |= uint64(le.Uint32(b[0x28:])) << 32
	g.FreeBlocksCount |= uint32(le.Uint16(b[0x2C:])) << 16
	g.FreeInodesCount |= uint32(le.Uint16(b[0x2E:])) << 16
	g.UsedDirsCount |= uint32(le.Uint16(b[0x30:])) << 16
	g.ItableUnused |= uint32(le.Uint16(b[0x32:])) << 16
	g.ExcludeBitmap |= uint64(le.Uint32(b[0x34:])) << 32
	g.BlockBitmapChecksum |= uint32(le.Uint16(b[0x38:])) << 16
	g.InodeBitmapChecksum |= uint32(le.Uint16(b[0x3A:])) << 16
}

// encode writes the descriptor to b, 32 or 64 bytes by b's length, Checksum as
// it stands.
func (g *groupDesc) encode(b []byte) {
	le.PutUint32(b[0x00:], uint32(g.BlockBitmap))
	le.PutUint32(b[0x04:], uint32(g.InodeBitmap))
	le.PutUint32(b[0x08:], uint32(g.InodeTable))
	le.PutUint16(b[0x0C:], uint16(g.FreeBlocksCount))
	le.PutUint16(b[0x0E:], uint16(g.FreeInodesCount))
	le.PutUint16(b[0x10:], uint16(g.UsedDirsCount))
	le.PutUint16(b[0x12:], g.Flags)
	le.PutUint32(b[0x14:], uint32(g.ExcludeBitmap))
	le.PutUint16(b[0x18:], uint16(g.BlockBitmapChecksum))
	le.PutUint16(b[0x1A:], uint16(g.InodeBitmapChecksum))
	le.PutUint16(b[0x1C:], uint16(g.ItableUnused))
	le.PutUint16(b[groupDescChecksumOffset:], g.Checksum)
	if len(b) < groupDescSize64 {
		return
	}
	le.PutUint32(b[0x20:], uint32(g.BlockBitmap>>32))
	le.PutUint32(b[0x24:], uint32(g.InodeBitmap>>32))
	le.PutUint32(b[0x28:], uint32(g.InodeTable>>32))
	le.PutUint16(b[0x2C:], uint16(g.FreeBlocksCount>>16))
	le.PutUint16(b[0x2E:], uint16(g.FreeInodesCount>>16))
	le.PutUint16(b[0x30:], uint16(g.UsedDirsCount>>16))
	le.PutUint16(b[0x32:], uint16(g.ItableUnused>>16))
	le.PutUint32(b[0x34:], uint32(g.ExcludeBitmap>>32))
	le.PutUint16(b[0x38:], uint16(g.BlockBitmapChecksum>>16))
	le.PutUint16(b[0x3A:], uint16(g.InodeBitmapChecksum>>16))
	le.PutUint32(b[0x3C:], 0) // bg_reserved
}

// timestamp is a time as inodes hold it: 34 bits of seconds, of which the
// lowest value is that of a signed 32-bit field, and nanoseconds.
type timestamp struct {
	Sec  int64 // -1<<31 to 3<<32 + 1<<31 - 1
	Nsec uint32
}

// Bounds of timestamp.Sec.
const (
	minTimestamp = -1 << 31
	maxTimestamp = 3<<32 + 1<<31 - 1
)

// decodeTimestamp joins an i_[acm]time with its i_[acm]time_extra: two bits
// of epoch below thirty of nanoseconds.
func decodeTimestamp(sec, extra uint32) timestamp {
	return timestamp{Sec: int64(int32(sec)) + int64(extra&3)<<32, Nsec: extra >> 2}
}

// encode splits the timestamp into its two fields.
func (t timestamp) encode() (sec, extra uint32) {
	sec = uint32(t.Sec)
	epoch := uint32((t.Sec-int64(int32(sec)))>>32) & 3
	return sec, t.Nsec<<2 | epoch
}

// inode is struct ext4_inode with its halves joined.
type inode struct {
	Mode       uint16
	UID, GID   uint32
	Size       uint64
	Atime      timestamp
	Ctime      timestamp
	Mtime      timestamp
	Crtime     timestamp
	Dtime      uint32
	LinksCount uint16
	Blocks     uint64 // in 512 bytes, or in blocks with inodeFlagHugeFile
	Flags      uint32
	Version    uint64
	Block      [inodeBlockSize]byte // extent root, block map, symlink target or device
	Generation uint32
	FileACL    uint64 // block with extended attributes
	ExtraIsize uint16 // 0 in a 128-byte inode
	Projid     uint32
	Checksum   uint32 // the low 16 bits alone in a 128-byte inode
}

// Where the inode's checksum halves stand, and its extra fields begin to be
// covered by i_extra_isize.
const (
	inodeChecksumLoOffset = 0x7C
	inodeExtraIsizeOffset = 0x80
	inodeChecksumHiOffset = 0x82
)

// inodeHasExtra reports whether i_extra_isize says that the field which ends
// at offset end is there.
func inodeHasExtra(b []byte, end int) bool {
	return len(b) >= end && len(b) > goodOldInodeSize &&
		goodOldInodeSize+int(le.Uint16(b[inodeExtraIsizeOffset:])) >= end
}

// decode reads an inode from its record in the table, at least 128 bytes.
func (in *inode) decode(b []byte) {
	*in = inode{
		Mode:       le.Uint16(b[0x00:]),
		UID:        uint32(le.Uint16(b[0x02:])) | uint32(le.Uint16(b[0x78:]))<<16,
		GID:        uint32(le.Uint16(b[0x18:])) | uint32(le.Uint16(b[0x7A:]))<<16,
		Size:       uint64(le.Uint32(b[0x04:])) | uint64(le.Uint32(b[0x6C:]))<<32,
		Atime:      decodeTimestamp(le.Uint32(b[0x08:]), 0),
		Ctime:      decodeTimestamp(le.Uint32(b[0x0C:]), 0),
		Mtime:      decodeTimestamp(le.Uint32(b[0x10:]), 0),
		Dtime:      le.Uint32(b[0x14:]),
		LinksCount: le.Uint16(b[0x1A:]),
		Blocks:     uint64(le.Uint32(b[0x1C:])) | uint64(le.Uint16(b[0x74:]))<<32,
		Flags:      le.Uint32(b[0x20:]),
		Version:    uint64(le.Uint32(b[0x24:])),
		Generation: le.Uint32(b[0x64:]),
		FileACL:    uint64(le.Uint32(b[0x68:])) | uint64(le.Uint16(b[0x76:]))<<32,
		Checksum:   uint32(le.Uint16(b[inodeChecksumLoOffset:])),
	}
	copy(in.Block[:], b[0x28:])
	if len(b) <= goodOldInodeSize {
		return
	}
	in.ExtraIsize = le.Uint16(b[inodeExtraIsizeOffset:])
	if inodeHasExtra(b, 0x84) {
		in.Checksum |= uint32(le.Uint16(b[inodeChecksumHiOffset:])) << 16
	}
	if inodeHasExtra(b, 0x88) {
		in.Ctime = decodeTimestamp(le.Uint32(b[0x0C:]), le.Uint32(b[0x84:]))
	}
	if inodeHasExtra(b, 0x8C) {
		in.Mtime = decodeTimestamp(le.Uint32(b[0x10:]), le.Uint32(b[0x88:]))
	}
	if inodeHasExtra(b, 0x90) {
		in.Atime = decodeTimestamp(le.Uint32(b[0x08:]), le.Uint32(b[0x8C:]))
	}
	if inodeHasExtra(b, 0x98) {
		in.Crtime = decodeTimestamp(le.Uint32(b[0x90:]), le.Uint32(b[0x94:]))
	}
	if inodeHasExtra(b, 0x9C) {
		in.Version |= uint64(le.Uint32(b[0x98:])) << 32
	}
	if inodeHasExtra(b, 0xA0) {
		in.Projid = le.Uint32(b[0x9C:])
	}
}

// encode writes the inode to its record of at least 160 bytes with every extra
// field, ExtraIsize and Checksum as they stand. Bytes past the extra fields
// (in-inode attributes) are left alone.
func (in *inode) encode(b []byte) {
	atime, atimeExtra := in.Atime.encode()
	ctime, ctimeExtra := in.Ctime.encode()
	mtime, mtimeExtra := in.Mtime.encode()
	crtime, crtimeExtra := in.Crtime.encode()
	le.PutUint16(b[0x00:], in.Mode)
	le.PutUint16(b[0x02:], uint16(in.UID))
	le.PutUint32(b[0x04:], uint32(in.Size))
	le.PutUint32(b[0x08:], atime)
	le.PutUint32(b[0x0C:], ctime)
	le.PutUint32(b[0x10:], mtime)
	le.PutUint32(b[0x14:], in.Dtime)
	le.PutUint16(b[0x18:], uint16(in.GID))
	le.PutUint16(b[0x1A:], in.LinksCount)
	le.PutUint32(b[0x1C:], uint32(in.Blocks))
	le.PutUint32(b[0x20:], in.Flags)
	le.PutUint32(b[0x24:], uint32(in.Version))
	copy(b[0x28:0x28+inodeBlockSize], in.Block[:])
	le.PutUint32(b[0x64:], in.Generation)
	le.PutUint32(b[0x68:], uint32(in.FileACL))
	le.PutUint32(b[0x6C:], uint32(in.Size>>32))
	le.PutUint32(b[0x70:], 0) // i_obso_faddr
	le.PutUint16(b[0x74:], uint16(in.Blocks>>32))
	le.PutUint16(b[0x76:], uint16(in.FileACL>>32))
	le.PutUint16(b[0x78:], uint16(in.UID>>16))
	le.PutUint16(b[0x7A:], uint16(in.GID>>16))
	le.PutUint16(b[inodeChecksumLoOffset:], uint16(in.Checksum))
	le.PutUint16(b[0x7E:], 0) // l_i_reserved
	le.PutUint16(b[inodeExtraIsizeOffset:], in.ExtraIsize)
	le.PutUint16(b[inodeChecksumHiOffset:], uint16(in.Checksum>>16))
	le.PutUint32(b[0x84:], ctimeExtra)
	le.PutUint32(b[0x88:], mtimeExtra)
	le.PutUint32(b[0x8C:], atimeExtra)
	le.PutUint32(b[0x90:], crtime)
	le.PutUint32(b[0x94:], crtimeExtra)
	le.PutUint32(b[0x98:], uint32(in.Version>>32))
	le.PutUint32(b[0x9C:], in.Projid)
}

// decodeDevice gives the device of a character or block inode: i_block[0] in
// the 16-bit form, or i_block[1] in the 32-bit one when the first is zero.
func (in *inode) decodeDevice() (major, minor uint32) {
	if old := le.Uint32(in.Block[0:]); old != 0 {
		return old >> 8 & 0xFF, old & 0xFF
	}
	dev := le.Uint32(in.Block[4:])
	return dev >> 8 & 0xFFF, dev&0xFF | dev>>12&0xFFF00
}

// encodeDevice puts a device into i_block, in the 16-bit form if it fits.
// The kernel holds majors of 12 bits and minors of 20.
func (in *inode) encodeDevice(major, minor uint32) {
	if major < 256 && minor < 256 {
		le.PutUint32(in.Block[0:], major<<8|minor)
		return
	}
	le.PutUint32(in.Block[4:], minor&0xFF|major<<8|minor&^0xFF<<12)
}

// Sizes of the parts of an extent tree's nodes, and bounds of its fields.
const (
	extentHeaderSize = 12
	extentEntrySize  = 12 // of struct ext4_extent and struct ext4_extent_idx alike
	extentTailSize   = 4
	extentMaxDepth   = 5     // EXT4_MAX_EXTENT_DEPTH
	extentMaxLen     = 32768 // blocks; lengths above say that the extent is unwritten
	extentRootMax    = (inodeBlockSize - extentHeaderSize) / extentEntrySize
)

// extentHeader is struct ext4_extent_header.
type extentHeader struct {
	Magic      uint16
	Entries    uint16
	Max        uint16
	Depth      uint16 // 0: the entries are leaves
	Generation uint32
}

func (h *extentHeader) decode(b []byte) {
	h.Magic = le.Uint16(b[0:])
	h.Entries = le.Uint16(b[2:])
	h.Max = le.Uint16(b[4:])
	h.Depth = le.Uint16(b[6:])
	h.Generation = le.Uint32(b[8:])
}

func (h *extentHeader) encode(b []byte) {
	le.PutUint16(b[0:], h.Magic)
	le.PutUint16(b[2:], h.Entries)
	le.PutUint16(b[4:], h.Max)
	le.PutUint16(b[6:], h.Depth)
	le.PutUint32(b[8:], h.Generation)
}

// extent is struct ext4_extent: Len blocks of the file, from Block on, stand
// at Start. An unwritten extent is allocated but reads as zeros.
type extent struct {
	Block     uint32
	Len       uint32 // up to 32768, or 32767 if unwritten
	Start     uint64
	Unwritten bool
}

func (e *extent) decode(b []byte) {
	e.Block = le.Uint32(b[0:])
	e.Len = uint32(le.Uint16(b[4:]))
	e.Unwritten = e.Len > extentMaxLen
	if e.Unwritten {
		e.Len -= extentMaxLen
	}
	e.Start = uint64(le.Uint16(b[6:]))<<32 | uint64(le.Uint32(b[8:]))
}

func (e *extent) encode(b []byte) {
	n := e.Len
	if e.Unwritten {
		n += extentMaxLen
	}
	le.PutUint32(b[0:], e.Block)
	le.PutUint16(b[4:], uint16(n))
	le.PutUint16(b[6:], uint16(e.Start>>32))
	le.PutUint32(b[8:], uint32(e.Start))
}

// extentIdx is struct ext4_extent_idx: the node at Leaf covers the file from
// Block on.
type extentIdx struct {
	Block uint32
	Leaf  uint64
}

func (x *extentIdx) decode(b []byte) {
	x.Block = le.Uint32(b[0:])
	x.Leaf = uint64(le.Uint16(b[8:]))<<32 | uint64(le.Uint32(b[4:]))
}

func (x *extentIdx) encode(b []byte) {
	le.PutUint32(b[0:], x.Block)
	le.PutUint32(b[4:], uint32(x.Leaf))
	le.PutUint16(b[8:], uint16(x.Leaf>>32))
	le.PutUint16(b[10:], 0) // ei_unused
}

// extentTailOffset is where struct ext4_extent_tail, the checksum, stands in
// a node of max entries.
func extentTailOffset(max uint16) int {
	return extentHeaderSize + int(max)*extentEntrySize
}

// Sizes of the parts of directory blocks.
const (
	direntHeaderSize = 8
	direntTailSize   = 12
	direntAlign      = 4
)

// direntHeader is struct ext4_dir_entry_2 without its name. RecLen is the
// true length, which for 64 KiB blocks is not what stands on disk.
type direntHeader struct {
	Inode    uint32 // 0: unused
	RecLen   uint32
	NameLen  uint8
	FileType uint8
}

func (d *direntHeader) decode(b []byte, blockSize int) {
	d.Inode = le.Uint32(b[0:])
	d.RecLen = decodeRecLen(le.Uint16(b[4:]), blockSize)
	d.NameLen = b[6]
	d.FileType = b[7]
}

func (d *direntHeader) encode(b []byte, blockSize int) {
	le.PutUint32(b[0:], d.Inode)
	le.PutUint16(b[4:], encodeRecLen(d.RecLen, blockSize))
	b[6] = d.NameLen
	b[7] = d.FileType
}

// maxRecLen on disk stands for an entry that fills a 64 KiB block.
const maxRecLen = 0xFFFF

// decodeRecLen gives the length that a rec_len stands for: lengths are
// multiples of four, so the low two bits are free to carry bits 16 and 17.
func decodeRecLen(v uint16, blockSize int) uint32 {
	if blockSize < maxBlockSize {
		return uint32(v)
	}
	if v == maxRecLen || v == 0 {
		return uint32(blockSize)
	}
	return uint32(v)&^3 | uint32(v)&3<<16
}

// encodeRecLen is the inverse of decodeRecLen.
func encodeRecLen(n uint32, blockSize int) uint16 {
	if int(n) == maxBlockSize && blockSize == maxBlockSize {
		return maxRecLen
	}
	return uint16(n)
}

// direntLen is the least rec_len of an entry with a name of n bytes.
func direntLen(n int) int {
	return (direntHeaderSize + n + direntAlign - 1) &^ (direntAlign - 1)
}

// encodeDirentTail writes struct ext4_dir_entry_tail to the 12 bytes of b: an
// unused entry of no name that holds the block's checksum.
func encodeDirentTail(b []byte, checksum uint32) {
	le.PutUint32(b[0:], 0)
	le.PutUint16(b[4:], direntTailSize)
	b[6] = 0
	b[7] = fileTypeTail
	le.PutUint32(b[8:], checksum)
}

// isDirentTail reports whether the 12 bytes of b are a directory tail.
func isDirentTail(b []byte) bool {
	return le.Uint32(b[0:]) == 0 && le.Uint16(b[4:]) == direntTailSize && b[6] == 0 && b[7] == fileTypeTail
}

// Positions in the blocks of a hashed directory. Its first block is a
// dx_root: entries "." and "..", struct dx_root_info, then the index. Others
// are dx_nodes: one unused entry over the whole block, then the index. In
// both the index begins with limit and count in the place of the first hash.
const (
	dxRootInfoOffset  = 0x18
	dxRootCountOffset = 0x20
	dxNodeCountOffset = 0x08
	dxRootInfoLen     = 8
	dxEntrySize       = 8
	dxTailSize        = 8
)

// dxRootInfo is struct dx_root_info.
type dxRootInfo struct {
	HashVersion    uint8
	InfoLength     uint8 // always 8
	IndirectLevels uint8 // levels of dx_node between root and leaves: 0, 1; 2 with largedir
	UnusedFlags    uint8
}

func (r *dxRootInfo) decode(b []byte) {
	r.HashVersion, r.InfoLength, r.IndirectLevels, r.UnusedFlags = b[4], b[5], b[6], b[7]
}

func (r *dxRootInfo) encode(b []byte) {
	le.PutUint32(b[0:], 0) // reserved_zero
	b[4], b[5], b[6], b[7] = r.HashVersion, r.InfoLength, r.IndirectLevels, r.UnusedFlags
}

// dxEntry is struct dx_entry: names whose hash is Hash or more, up to the next
// entry's, stand in the directory's block Block.
type dxEntry struct {
	Hash  uint32
	Block uint32
}

func (e *dxEntry) decode(b []byte) { e.Hash, e.Block = le.Uint32(b[0:]), le.Uint32(b[4:]) }

func (e *dxEntry) encode(b []byte) {
	le.PutUint32(b[0:], e.Hash)
	le.PutUint32(b[4:], e.Block)
}

// Sizes and flags of extended attributes.
const (
	xattrBlockHeaderSize = 32 // struct ext4_xattr_header
	xattrIbodyHeaderSize = 4  // struct ext4_xattr_ibody_header: the magic
	xattrEntrySize       = 16 // struct ext4_xattr_entry without its name
	xattrAlign           = 4  // of entries and of values
)

// xattrHeader is struct ext4_xattr_header, at the start of an attribute block.
type xattrHeader struct {
	Magic    uint32
	Refcount uint32 // inodes that share the block
	Blocks   uint32 // always 1
	Hash     uint32 // of all entries
	Checksum uint32
}

// xattrChecksumOffset is where h_checksum stands.
const xattrChecksumOffset = 0x10

func (h *xattrHeader) decode(b []byte) {
	h.Magic = le.Uint32(b[0x00:])
	h.Refcount = le.Uint32(b[0x04:])
	h.Blocks = le.Uint32(b[0x08:])
	h.Hash = le.Uint32(b[0x0C:])
	h.Checksum = le.Uint32(b[xattrChecksumOffset:])
}

func (h *xattrHeader) encode(b []byte) {
	clear(b[:xattrBlockHeaderSize])
	le.PutUint32(b[0x00:], h.Magic)
	le.PutUint32(b[0x04:], h.Refcount)
	le.PutUint32(b[0x08:], h.Blocks)
	le.PutUint32(b[0x0C:], h.Hash)
	le.PutUint32(b[xattrChecksumOffset:], h.Checksum)
}

// xattrEntry is struct ext4_xattr_entry without its name, which follows it.
type xattrEntry struct {
	NameLen   uint8
	NameIndex uint8  // prefix of the name: xattrPrefixes
	ValueOffs uint16 // from the first entry (in-inode) or from the block's start
	ValueInum uint32 // inode that holds the value, or 0
	ValueSize uint32
	Hash      uint32 // of name and value; 0 in the inode unless ValueInum
}

func (e *xattrEntry) decode(b []byte) {
	e.NameLen, e.NameIndex = b[0], b[1]
	e.ValueOffs = le.Uint16(b[2:])
	e.ValueInum = le.Uint32(b[4:])
	e.ValueSize = le.Uint32(b[8:])
	e.Hash = le.Uint32(b[12:])
}

func (e *xattrEntry) encode(b []byte) {
	b[0], b[1] = e.NameLen, e.NameIndex
	le.PutUint16(b[2:], e.ValueOffs)
	le.PutUint32(b[4:], e.ValueInum)
	le.PutUint32(b[8:], e.ValueSize)
	le.PutUint32(b[12:], e.Hash)
}

// xattrEntryLen is the length of an entry with a name of n bytes.
func xattrEntryLen(n int) int {
	return (xattrEntrySize + n + xattrAlign - 1) &^ (xattrAlign - 1)
}

// Values of e_name_index whose prefix is the whole name.
const (
	xattrIndexUser       = 1
	xattrIndexACLAccess  = 2
	xattrIndexACLDefault = 3
	xattrIndexTrusted    = 4
	xattrIndexSecurity   = 6
	xattrIndexSystem     = 7
	xattrIndexRichACL    = 8
)

// xattrPrefixes gives the part of an attribute's name that e_name_index
// stands for; index 0 is a name written out in full. POSIX ACLs are held in a
// form of their own on disk.
var xattrPrefixes = map[uint8]string{
	0:                    "",
	xattrIndexUser:       "user.",
	xattrIndexACLAccess:  "system.posix_acl_access",
	xattrIndexACLDefault: "system.posix_acl_default",
	xattrIndexTrusted:    "trusted.",
	xattrIndexSecurity:   "security.",
	xattrIndexSystem:     "system.",
	xattrIndexRichACL:    "system.richacl",
}

// Block types and features of the journal.
const (
	journalSuperblockV2     = 4 // h_blocktype
	journalSuperblockSize   = 1024
	journalChecksumOffset   = 0xFC
	journalCompatChecksum   = 0x1
	journalIncompatRevoke   = 0x1
	journalIncompat64Bit    = 0x2
	journalIncompatCsumV2   = 0x8
	journalIncompatCsumV3   = 0x10
	journalMinBlocks        = 1024 // JBD2_MIN_JOURNAL_BLOCKS
	journalBackupInodeBlock = 1    // s_jnl_backup_type
)

// journalSuperblock is struct journal_superblock_s with its header. It is big
// endian.
type journalSuperblock struct {
	Magic     uint32
	BlockType uint32
	HSequence uint32

	BlockSize       uint32
	MaxLen          uint32 // blocks in the journal
	First           uint32 // first block of log
	Sequence        uint32 // first commit ID expected
	Start           uint32 // block of the start of log; 0: nothing to replay
	Errno           uint32
	FeatureCompat   uint32
	FeatureIncompat uint32
	FeatureROCompat uint32
	UUID            [16]byte
	NrUsers         uint32
	Dynsuper        uint32
	MaxTransaction  uint32
	MaxTransData    uint32
	ChecksumType    uint8
	Padding2        [3]uint8
	NumFCBlocks     uint32
	Head            uint32
	Padding         [40]uint32
	Checksum        uint32
	Users           [16 * 48]uint8
}

func (j *journalSuperblock) decode(b []byte) error {
	if _, err := binary.Decode(b, binary.BigEndian, j); err != nil {
		return fmt.Errorf("decode journal superblock: %w", err)
	}
	return nil
}

func (j *journalSuperblock) encode(b []byte) error {
	if _, err := binary.Encode(b, binary.BigEndian, j); err != nil {
		return fmt.Errorf("encode journal superblock: %w", err)
	}
	return nil
}

// cString gives the text of a fixed field up to its first NUL.
func cString(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}
