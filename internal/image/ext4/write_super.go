package ext4

import (
	"encoding/binary"
	"math/bits"
)

// groupsPerFlexLog is the logarithm of the size of a flex group, which guides the kernel's
// placement of new files: 2^4, as with mke2fs.
const groupsPerFlexLog = 4

// neverCheck is a MaxMntCount that disables checks by number of mounts.
const neverCheck = 0xFFFF

// newSuperblock returns the superblock of a plan, without UUID and checksum.
func newSuperblock(p *plan, l *layout) superblock {
	now := uint64(timestampOf(p.o.ModTime).Sec)
	free := l.freeBlocks()
	sb := superblock{
		InodesCount:       uint32(l.inodes()),
		BlocksCountLo:     uint32(l.blocks),
		BlocksCountHi:     uint32(l.blocks >> 32),
		FreeBlocksCountLo: uint32(free),
		FreeBlocksCountHi: uint32(free >> 32),
		FreeInodesCount:   uint32(l.inodes()) - p.lastInode(),
		FirstDataBlock:    uint32(l.firstDataBlock),
		LogBlockSize:      uint32(bits.TrailingZeros64(l.blockSize / minBlockSize)),
		LogClusterSize:    uint32(bits.TrailingZeros64(l.blockSize / minBlockSize)),
		BlocksPerGroup:    uint32(l.blocksPerGroup),
		ClustersPerGroup:  uint32(l.blocksPerGroup),
		InodesPerGroup:    uint32(l.inodesPerGroup),
		MaxMntCount:       neverCheck,
		Magic:             superblockMagic,
		State:             stateValid,
		Errors:            errorsContinue,
		CreatorOS:         osLinux,
		RevLevel:          revDynamic,
		FirstIno:          firstInode,
		InodeSize:         defaultInodeSize,
		DescSize:          groupDescSize64,
		MinExtraIsize:     inodeExtraSize,
		WantExtraIsize:    inodeExtraSize,
		DefaultMountOpts:  defaultMountXattrUser | defaultMountACL,
		DefHashVersion:    hashHalfMD4,
		Flags:             flagSignedHash,
		LogGroupsPerFlex:  groupsPerFlexLog,
		ChecksumType:      checksumCRC32C,
		Wtime:             uint32(now),
		WtimeHi:           uint8(now >> 32),
		MkfsTime:          uint32(now),
		MkfsTimeHi:        uint8(now >> 32),
		Lastcheck:         uint32(now),
		LastcheckHi:       uint8(now >> 32),
		FeatureCompat:     compatExtAttr | compatDirIndex,
		FeatureIncompat:   incompatFiletype | incompatExtents | incompat64Bit | incompatFlexBG,
		FeatureROCompat: roCompatSparseSuper | roCompatLargeFile | roCompatHugeFile |
			roCompatDirNlink | roCompatExtraIsize | roCompatMetadataCsum,
		UUID: p.o.UUID,
	}
	copy(sb.VolumeName[:], p.o.Label)
	if p.resize != nil {
		sb.FeatureCompat |= compatResizeInode
		sb.ReservedGDTBlocks = uint16(l.reservedDescBlocks())
		sb.HashSeed = p.o.hashSeed()
		sb.Errors = errorsRemountRO
	}
	if p.largeDir {
		sb.FeatureIncompat |= incompatLargedir
	}
	if p.o.UUID == [16]byte{} {
		// Checksums start with the UUID or with a separate seed. The UUID is known only after
		// everything is written.
		sb.ChecksumSeed = sb.checksumSeed()
		sb.FeatureIncompat |= incompatCsumSeed
	}
	return sb
}

// addJournal sets the journal's inode number, and the copy of the inode's block map with which
// e2fsck restores a lost inode.
func (sb *superblock) addJournal(journal *node, root [inodeBlockSize]byte) {
	sb.FeatureCompat |= compatHasJournal
	sb.JournalInum = inodeJournal
	sb.JnlBackupType = journalBackupInodeBlock
	words := len(root) / 4
	for i := range words {
		sb.JnlBlocks[i] = le.Uint32(root[4*i:])
	}
	sb.JnlBlocks[words] = uint32(journal.size >> 32)
	sb.JnlBlocks[words+1] = uint32(journal.size)
}

// encodeWithChecksum returns the 1024 bytes of a group's superblock.
func (sb *superblock) encodeWithChecksum(group uint64) ([]byte, error) {
	b := make([]byte, superblockSize)
	sb.BlockGroupNr = uint16(group)
	if err := sb.encode(b); err != nil {
		return nil, err
	}
	sb.Checksum = superblockChecksum(b)
	le.PutUint32(b[superblockChecksumOffset:], sb.Checksum)
	return b, nil
}

// encodeJournalSuperblock returns the first block of an empty journal.
func encodeJournalSuperblock(journal *node, blockSize int, uuid [16]byte) ([]byte, error) {
	js := journalSuperblock{
		Magic:     journalMagic,
		BlockType: journalSuperblockV2,
		BlockSize: uint32(blockSize),
		MaxLen:    uint32(journal.size / int64(blockSize)),
		First:     1,
		Sequence:  1,
		NrUsers:   1,
		UUID:      uuid,
	}
	b := make([]byte, max(blockSize, binary.Size(js)))
	if err := js.encode(b); err != nil {
		return nil, err
	}
	return b, nil
}
