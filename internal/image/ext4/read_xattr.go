package ext4

import "bytes"

// maxXattrValue is XATTR_SIZE_MAX, Linux's limit of a value in bytes.
const maxXattrValue = 1 << 16

// Xattrs returns a file's extended attributes by full name, such as "security.capability". POSIX
// ACLs have the format of getxattr(2). Symbolic links are followed, except in the last element.
func (f *FS) Xattrs(name string) (map[string][]byte, error) {
	at, err := f.resolve(name, false)
	if err != nil {
		return nil, pathError("getxattr", name, err)
	}
	attrs, err := at.node.xattrs()
	return attrs, pathError("getxattr", name, err)
}

// xattrArea is an area with attributes: the end of an inode, or a block.
type xattrArea struct {
	entries []byte // from the first entry to the area's end
	values  []byte // from the base of value offsets to the area's end
	inInode bool
}

// xattrs reads the inode's attributes. The map may be empty.
func (nd *vnode) xattrs() (map[string][]byte, error) {
	attrs := map[string][]byte{}
	areas, err := nd.xattrAreas()
	if err != nil {
		return nil, err
	}
	for _, area := range areas {
		err := area.each(func(e xattrEntry, name []byte) error { return nd.addXattr(attrs, &area, e, name) })
		if err != nil {
			return nil, wrapf(err, "extended attributes of inode %d", nd.number)
		}
	}
	return attrs, nil
}

// xattrAreas finds where the inode's attributes are.
func (nd *vnode) xattrAreas() ([]xattrArea, error) {
	var areas []xattrArea
	if nd.ExtraIsize > 0 {
		body := nd.raw[goodOldInodeSize+int(nd.ExtraIsize):]
		if len(body) >= xattrIbodyHeaderSize && le.Uint32(body) == xattrMagic {
			body = body[xattrIbodyHeaderSize:]
			areas = append(areas, xattrArea{entries: body, values: body, inInode: true})
		}
	}
	if nd.FileACL != 0 {
		b, err := nd.fs.readXattrBlock(nd.FileACL)
		if err != nil {
			return nil, wrapf(err, "extended attributes of inode %d: block %d", nd.number, nd.FileACL)
		}
		areas = append(areas, xattrArea{entries: b[xattrBlockHeaderSize:], values: b})
	}
	return areas, nil
}

// readXattrBlock reads and verifies a block of attributes.
func (f *FS) readXattrBlock(n uint64) ([]byte, error) {
	b, err := f.readBlock(n)
	if err != nil {
		return nil, err
	}
	var h xattrHeader
	h.decode(b)
	switch {
	case h.Magic != xattrMagic:
		return nil, corruptf("magic is %#08x, not %#08x", h.Magic, uint32(xattrMagic))
	case h.Blocks != 1:
		return nil, corruptf("header says %d blocks", h.Blocks)
	}
	if f.hasCsum {
		if sum := xattrBlockChecksum(f.seed, n, b); sum != h.Checksum {
			return nil, corruptf("checksum is %#08x, its bytes give %#08x", h.Checksum, sum)
		}
	}
	return b, nil
}

// each calls fn with each entry up to the four zero bytes that end them.
func (a *xattrArea) each(fn func(e xattrEntry, name []byte) error) error {
	for b := a.entries; ; {
		if len(b) < 4 {
			return corruptf("entries run over the end")
		}
		if le.Uint32(b) == 0 {
			return nil
		}
		if len(b) < xattrEntrySize {
			return corruptf("entries run over the end")
		}
		var e xattrEntry
		e.decode(b)
		length := xattrEntryLen(int(e.NameLen))
		if length > len(b) {
			return corruptf("entries run over the end")
		}
		if err := fn(e, b[xattrEntrySize:][:e.NameLen]); err != nil {
			return err
		}
		b = b[length:]
	}
}

// addXattr puts one attribute into the map.
func (nd *vnode) addXattr(attrs map[string][]byte, area *xattrArea, e xattrEntry, suffix []byte) error {
	prefix, ok := xattrPrefixes[e.NameIndex]
	if !ok || bytes.IndexByte(suffix, 0) >= 0 {
		return corruptf("name %q with index %d", suffix, e.NameIndex)
	}
	name := prefix + string(suffix)
	if _, ok := attrs[name]; ok {
		return corruptf("%q appears twice", name)
	}
	value, err := nd.xattrValue(area, e, suffix)
	if err != nil {
		return wrapf(err, "%q", name)
	}
	if e.NameIndex == xattrIndexACLAccess || e.NameIndex == xattrIndexACLDefault {
		if value, err = decodeACL(value); err != nil {
			return wrapf(err, "%q", name)
		}
	}
	attrs[name] = value
	return nil
}

// xattrValue reads an attribute's value, from the area or from an inode of its
// own, and verifies the hash if there is one.
func (nd *vnode) xattrValue(area *xattrArea, e xattrEntry, suffix []byte) ([]byte, error) {
	if e.ValueSize > maxXattrValue {
		return nil, corruptf("value of %d bytes", e.ValueSize)
	}
	if e.ValueInum != 0 {
		return nd.fs.xattrInodeValue(e, suffix)
	}
	if e.ValueSize == 0 {
		return []byte{}, nil
	}
	start, size := int(e.ValueOffs), int(e.ValueSize)
	if start > len(area.values) || size > len(area.values)-start {
		return nil, corruptf("value of %d bytes at %d lies outside", size, start)
	}
	value := area.values[start:][:size]
	if area.inInode && e.Hash == 0 { // in inodes the hash is optional
		return bytes.Clone(value), nil
	}
	return bytes.Clone(value), checkXattrHash(e, suffix, xattrWords(value))
}

// xattrInodeValue reads a value that has an inode of its own (ea_inode). Its
// access time is the crc32c of its bytes.
func (f *FS) xattrInodeValue(e xattrEntry, suffix []byte) ([]byte, error) {
	if f.sb.FeatureIncompat&incompatEAInode == 0 {
		return nil, corruptf("value in inode %d, which needs the feature ea_inode", e.ValueInum)
	}
	nd, err := f.node(e.ValueInum)
	if err != nil {
		return nil, err
	}
	if nd.Flags&inodeFlagEAInode == 0 || !nd.isType(modeRegular) || nd.Size != uint64(e.ValueSize) {
		return nil, corruptf("inode %d is not its value", e.ValueInum)
	}
	value := make([]byte, e.ValueSize)
	if len(value) > 0 {
		if _, err := newContent(nd).ReadAt(value, 0); err != nil {
			return nil, err
		}
	}
	sum := crc32c(f.sb.checksumSeed(), value)
	if stored := uint32(nd.Atime.Sec); sum != stored {
		return nil, corruptf("value in inode %d has checksum %#08x, its bytes give %#08x", e.ValueInum, stored, sum)
	}
	return value, checkXattrHash(e, suffix, []uint32{sum})
}

// xattrInodeBlocks returns the number of blocks of values in other inodes, which count for this
// inode.
func (nd *vnode) xattrInodeBlocks() uint64 {
	areas, err := nd.xattrAreas()
	if err != nil {
		return 0
	}
	var blocks uint64
	for _, area := range areas {
		_ = area.each(func(e xattrEntry, _ []byte) error {
			if e.ValueInum != 0 {
				blocks += divUp(uint64(e.ValueSize), uint64(nd.fs.blockSize))
			}
			return nil
		})
	}
	return blocks
}

// checkXattrHash verifies e_hash against the name and the words of the value. Older kernels hashed
// names with the machine's signedness of char: both results are valid.
func checkXattrHash(e xattrEntry, suffix []byte, words []uint32) error {
	if e.Hash == xattrHash(suffix, words, true) || e.Hash == xattrHash(suffix, words, false) {
		return nil
	}
	return corruptf("hash is %#08x, its bytes give %#08x", e.Hash, xattrHash(suffix, words, true))
}

// aclUndefinedID is the ID of entries without a user or group, in the format that has an ID in
// every entry.
const aclUndefinedID = 0xFFFFFFFF

// decodeACL converts an ACL from the disk's format to that of getxattr(2).
func decodeACL(b []byte) ([]byte, error) {
	if len(b) < aclHeaderSize || le.Uint32(b) != aclDiskVersion {
		return nil, corruptf("ACL of %d bytes is not of version %d", len(b), aclDiskVersion)
	}
	out := le.AppendUint32(nil, aclXattrVersion)
	for b = b[aclHeaderSize:]; len(b) > 0; {
		if len(b) < aclShortEntry {
			return nil, corruptf("ACL is cut short")
		}
		id, length := uint32(aclUndefinedID), aclShortEntry
		if tag := le.Uint16(b); tag == aclTagUser || tag == aclTagGroup {
			if length = aclEntrySize; len(b) < length {
				return nil, corruptf("ACL is cut short")
			}
			id = le.Uint32(b[aclShortEntry:])
		}
		out = append(out, b[:aclShortEntry]...)
		out = le.AppendUint32(out, id)
		b = b[length:]
	}
	return out, nil
}
