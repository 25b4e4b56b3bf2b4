package ext4

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"
	"strings"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// xattrInodeRoom is the space for attributes in an inode, in bytes.
const xattrInodeRoom = defaultInodeSize - goodOldInodeSize - inodeExtraSize - xattrIbodyHeaderSize

// xattrEnd is the length of the zeros that end a list of attributes.
const xattrEnd = 4

// An xattr is an extended attribute in ext4's format.
type xattr struct {
	index uint8
	name  string // without the prefix of index
	value []byte
}

// size returns the space of the attribute's name and value.
func (a *xattr) size() int {
	return xattrEntryLen(len(a.name)) + (len(a.value)+xattrAlign-1)&^(xattrAlign-1)
}

// An xattrPlan has the placement of an inode's attributes, in the kernel's lookup order.
type xattrPlan struct {
	inInode, inBlock []xattr
}

// planXattrs puts attributes into the inode as far as they fit, and the rest into a block.
func planXattrs(in *tree.Inode, blockSize int) (*xattrPlan, error) {
	if len(in.Xattrs) == 0 {
		return nil, nil
	}
	p := &xattrPlan{}
	all := make([]xattr, 0, len(in.Xattrs))
	for name, value := range in.Xattrs {
		a, err := newXattr(name, value, in.IsDir())
		if err != nil {
			return nil, fmt.Errorf("extended attribute %q: %w", name, err)
		}
		all = append(all, a)
	}
	sort.Slice(all, func(i, j int) bool { return xattrLess(&all[i], &all[j]) })
	inodeRoom, blockRoom := xattrInodeRoom-xattrEnd, blockSize-xattrBlockHeaderSize-xattrEnd
	for _, a := range all {
		if size := a.size(); size <= inodeRoom {
			inodeRoom -= size
			p.inInode = append(p.inInode, a)
		} else if size <= blockRoom {
			blockRoom -= size
			p.inBlock = append(p.inBlock, a)
		} else {
			return nil, fmt.Errorf("the extended attributes are more than fit in a block of %d bytes", blockSize)
		}
	}
	return p, nil
}

// xattrLess is the order in a block, which the kernel's search relies on (ext4_xattr_cmp).
func xattrLess(a, b *xattr) bool {
	if a.index != b.index {
		return a.index < b.index
	}
	if len(a.name) != len(b.name) {
		return len(a.name) < len(b.name)
	}
	return a.name < b.name
}

// newXattr turns an attribute into ext4's form.
func newXattr(name string, value []byte, isDir bool) (xattr, error) {
	switch name {
	case xattrPrefixes[xattrIndexACLAccess]:
		acl, err := encodeACL(value)
		return xattr{index: xattrIndexACLAccess, value: acl}, err
	case xattrPrefixes[xattrIndexACLDefault]:
		if !isDir {
			return xattr{}, errors.New("only directories can have it")
		}
		acl, err := encodeACL(value)
		return xattr{index: xattrIndexACLDefault, value: acl}, err
	}
	for _, index := range []uint8{xattrIndexUser, xattrIndexTrusted, xattrIndexSecurity} {
		rest, ok := strings.CutPrefix(name, xattrPrefixes[index])
		if !ok {
			continue
		}
		if rest == "" || len(name) > maxNameLen || strings.Contains(rest, "\x00") {
			return xattr{}, errors.New("not a name that Linux accepts")
		}
		return xattr{index: index, name: rest, value: value}, nil
	}
	return xattr{}, errors.New("ext4 holds those of user, trusted and security, and POSIX ACLs")
}

// POSIX ACLs: programs and archives use the format of linux/posix_acl_xattr.h, with an ID in every
// entry; ext4 has an ID only in entries for named users and groups.
const (
	aclXattrVersion = 2
	aclDiskVersion  = 1
	aclHeaderSize   = 4
	aclEntrySize    = 8
	aclShortEntry   = 4
	aclTagUser      = 0x02
	aclTagGroup     = 0x08
)

// encodeACL converts an ACL from the format of system calls to that on disk.
func encodeACL(value []byte) ([]byte, error) {
	if len(value) < aclHeaderSize || le.Uint32(value) != aclXattrVersion || (len(value)-aclHeaderSize)%aclEntrySize != 0 {
		return nil, errors.New("not an ACL of version 2")
	}
	out := le.AppendUint32(nil, aclDiskVersion)
	for e := value[aclHeaderSize:]; len(e) > 0; e = e[aclEntrySize:] {
		size := aclShortEntry
		if tag := le.Uint16(e); tag == aclTagUser || tag == aclTagGroup {
			size = aclEntrySize
		}
		out = append(out, e[:size]...)
	}
	return out, nil
}

// encodeInInode writes attributes to the space after an inode's fields.
func (p *xattrPlan) encodeInInode(b []byte) {
	if p == nil || len(p.inInode) == 0 {
		return
	}
	le.PutUint32(b, xattrMagic)
	encodeXattrs(b[xattrIbodyHeaderSize:], 0, p.inInode, false)
}

// encodeBlock encodes the attribute block at block number at.
func (p *xattrPlan) encodeBlock(b []byte, seed uint32, at uint64) {
	clear(b)
	h := xattrHeader{Magic: xattrMagic, Refcount: 1, Blocks: 1}
	h.Hash = encodeXattrs(b, xattrBlockHeaderSize, p.inBlock, true)
	h.encode(b)
	h.Checksum = xattrBlockChecksum(seed, at, b)
	h.encode(b)
}

// encodeXattrs writes entries from start on, and values from the end of b down. With hashed set,
// entries get their hashes, and the result is the hash over all.
func encodeXattrs(b []byte, start int, attrs []xattr, hashed bool) (all uint32) {
	end := len(b)
	for _, a := range attrs {
		e := xattrEntry{NameLen: uint8(len(a.name)), NameIndex: a.index, ValueSize: uint32(len(a.value))}
		if len(a.value) > 0 {
			end -= (len(a.value) + xattrAlign - 1) &^ (xattrAlign - 1)
			copy(b[end:], a.value)
			e.ValueOffs = uint16(end)
		}
		if hashed {
			e.Hash = xattrHash([]byte(a.name), xattrWords(a.value), true)
			all = bits.RotateLeft32(all, 16) ^ e.Hash
		}
		e.encode(b[start:])
		copy(b[start+xattrEntrySize:], a.name)
		start += xattrEntryLen(len(a.name))
	}
	return all
}
