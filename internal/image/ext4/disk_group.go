package ext4

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
