package ext4

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

// xattrPrefixes maps e_name_index to the prefix of an attribute's name; index 0 has no prefix.
// POSIX ACLs have their own format on disk.
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
