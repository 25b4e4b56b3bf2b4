package ext4

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

// Sizes of the parts of directory blocks.
const (
	direntHeaderSize = 8
	direntTailSize   = 12
	direntAlign      = 4
)

// direntHeader is struct ext4_dir_entry_2 without its name. RecLen is the decoded length; with 64
// KiB blocks the disk has an encoded form.
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

// maxRecLen on disk means an entry that fills a 64 KiB block.
const maxRecLen = 0xFFFF

// decodeRecLen decodes a rec_len. Lengths are multiples of four, so the low two bits hold bits 16
// and 17.
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

// dxEntry is struct dx_entry: the directory's block Block has the names with hashes from Hash up to
// the next entry's.
type dxEntry struct {
	Hash  uint32
	Block uint32
}

func (e *dxEntry) decode(b []byte) { e.Hash, e.Block = le.Uint32(b[0:]), le.Uint32(b[4:]) }

func (e *dxEntry) encode(b []byte) {
	le.PutUint32(b[0:], e.Hash)
	le.PutUint32(b[4:], e.Block)
}
