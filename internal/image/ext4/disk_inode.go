package ext4

// timestamp is a time in the range of an inode's fields: 34 bits of seconds, starting at the lowest
// signed 32-bit value, and nanoseconds.
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

// Offsets of the inode's checksum halves, and of the first field that i_extra_isize covers.
const (
	inodeChecksumLoOffset = 0x7C
	inodeExtraIsizeOffset = 0x80
	inodeChecksumHiOffset = 0x82
)

// inodeHasExtra reports whether i_extra_isize covers a field that ends at offset end.
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
