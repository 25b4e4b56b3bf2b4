package ext4

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// superblock is struct ext4_super_block field by field, for encoding/binary. Its reflection is
// slow, but a file system has few superblocks.
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

// join64 joins a split block count; the high half is valid only with the 64bit feature.
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

// cString gives the text of a fixed field up to its first NUL.
func cString(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}
