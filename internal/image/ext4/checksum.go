package ext4

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c continues a checksum over b as the kernel's crc32c does: without the
// inversions before and after that hash/crc32 makes.
func crc32c(crc uint32, b []byte) uint32 {
	return ^crc32.Update(^crc, castagnoli, b)
}

// crc32cUint32 continues a checksum over a little-endian number.
func crc32cUint32(crc, v uint32) uint32 {
	var b [4]byte
	le.PutUint32(b[:], v)
	return crc32c(crc, b[:])
}

var zeros4 [4]byte // replaces the checksum field in the covered bytes

// superblockChecksum is s_checksum of the 1024 bytes in b.
func superblockChecksum(b []byte) uint32 {
	return crc32c(^uint32(0), b[:superblockChecksumOffset])
}

// checksumSeed is the initial value of all checksums except the superblock's.
func (sb *superblock) checksumSeed() uint32 {
	if sb.FeatureIncompat&incompatCsumSeed != 0 {
		return sb.ChecksumSeed
	}
	return crc32c(^uint32(0), sb.UUID[:])
}

// inodeSeed is the initial value of the checksums of an inode and of its blocks.
func inodeSeed(seed, ino, generation uint32) uint32 {
	return crc32cUint32(crc32cUint32(seed, ino), generation)
}

// inodeChecksum is the checksum of the inode's whole record b; iseed is its inodeSeed. An inode
// without i_checksum_hi holds only the low half.
func inodeChecksum(iseed uint32, b []byte) uint32 {
	crc := crc32c(iseed, b[:inodeChecksumLoOffset])
	crc = crc32c(crc, zeros4[:2])
	crc = crc32c(crc, b[inodeChecksumLoOffset+2:goodOldInodeSize])
	if len(b) <= goodOldInodeSize {
		return crc
	}
	crc = crc32c(crc, b[goodOldInodeSize:inodeChecksumHiOffset])
	rest := b[inodeChecksumHiOffset:]
	if inodeHasExtra(b, inodeChecksumHiOffset+2) {
		crc = crc32c(crc, zeros4[:2])
		rest = rest[2:]
	}
	return crc32c(crc, rest)
}

// groupDescChecksum is bg_checksum of a descriptor's bytes under metadata_csum.
func groupDescChecksum(seed, group uint32, b []byte) uint16 {
	crc := crc32cUint32(seed, group)
	crc = crc32c(crc, b[:groupDescChecksumOffset])
	crc = crc32c(crc, zeros4[:2])
	crc = crc32c(crc, b[groupDescChecksumOffset+2:])
	return uint16(crc)
}

// groupDescCRC16 is bg_checksum of a descriptor's bytes under uninit_bg (gdt_csum), which excludes
// the field itself.
func groupDescCRC16(uuid [16]byte, group uint32, b []byte) uint16 {
	var number [4]byte
	le.PutUint32(number[:], group)
	crc := crc16(^uint16(0), uuid[:])
	crc = crc16(crc, number[:])
	crc = crc16(crc, b[:groupDescChecksumOffset])
	return crc16(crc, b[groupDescChecksumOffset+2:])
}

// bitmapChecksum is the checksum of a group's block or inode bitmap: it covers the bytes for the
// group's blocks or inodes, not the padding. A 32-byte descriptor holds only the low half.
func bitmapChecksum(seed uint32, bitmap []byte) uint32 {
	return crc32c(seed, bitmap)
}

// extentBlockChecksum is et_checksum of an extent node in a block of its own;
// max is its eh_max.
func extentBlockChecksum(iseed uint32, block []byte, max uint16) uint32 {
	return crc32c(iseed, block[:extentTailOffset(max)])
}

// dirBlockChecksum is det_checksum of a directory block of entries, which
// covers all before its tail.
func dirBlockChecksum(iseed uint32, block []byte) uint32 {
	return crc32c(iseed, block[:len(block)-direntTailSize])
}

// dxBlockChecksum is dt_checksum of a hashed directory's index block with its count and limit at
// countOffset: it covers the entries in use, and the tail (reserved word and zero for the checksum)
// after the last possible entry.
func dxBlockChecksum(iseed uint32, block []byte, countOffset int, limit, count uint16) uint32 {
	crc := crc32c(iseed, block[:countOffset+int(count)*dxEntrySize])
	tail := countOffset + int(limit)*dxEntrySize
	crc = crc32c(crc, block[tail:tail+4])
	return crc32c(crc, zeros4[:])
}

// xattrBlockChecksum is h_checksum of the attribute block at block number n.
func xattrBlockChecksum(seed uint32, n uint64, block []byte) uint32 {
	var number [8]byte
	le.PutUint64(number[:], n)
	crc := crc32c(seed, number[:])
	crc = crc32c(crc, block[:xattrChecksumOffset])
	crc = crc32c(crc, zeros4[:])
	return crc32c(crc, block[xattrChecksumOffset+4:])
}

// journalSuperblockChecksum is s_checksum of the journal's 1024 bytes.
func journalSuperblockChecksum(b []byte) uint32 {
	crc := crc32c(^uint32(0), b[:journalChecksumOffset])
	crc = crc32c(crc, zeros4[:])
	return crc32c(crc, b[journalChecksumOffset+4:journalSuperblockSize])
}

// crc16 continues the checksum of uninit_bg: polynomial x^16+x^15+x^2+1,
// reflected (lib/crc16.c).
func crc16(crc uint16, b []byte) uint16 {
	const poly = 0xA001
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			carry := crc & 1
			crc >>= 1
			if carry != 0 {
				crc ^= poly
			}
		}
	}
	return crc
}
