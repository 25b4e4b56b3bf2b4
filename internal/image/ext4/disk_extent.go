package ext4

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

// extent is struct ext4_extent: Len blocks of the file, from Block on, are at block Start of the
// image. An unwritten extent is allocated but reads as zeros.
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
