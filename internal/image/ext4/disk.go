package ext4

import "encoding/binary"

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
