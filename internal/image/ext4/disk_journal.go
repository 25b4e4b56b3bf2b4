package ext4

import (
	"encoding/binary"
	"fmt"
)

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
