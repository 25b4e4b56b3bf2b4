package ext4

import (
	"io/fs"
	"math"
	"time"
)

// vnode is an inode that was read from its table.
type vnode struct {
	inode
	fs     *FS
	number uint32
	raw    []byte // the whole record, in-inode attributes included
	seed   uint32 // its inodeSeed
}

// inodeRecord reads the record of an inode from its group's table.
func (f *FS) inodeRecord(number uint32) ([]byte, error) {
	if number == 0 || number > f.sb.InodesCount {
		return nil, corruptf("inode number %d of %d", number, f.sb.InodesCount)
	}
	group, index := (number-1)/f.sb.InodesPerGroup, (number-1)%f.sb.InodesPerGroup
	raw := make([]byte, f.inodeSize)
	off := f.blockOffset(f.groups[group].InodeTable) + int64(index)*int64(f.inodeSize)
	return raw, f.readAt(raw, off)
}

// node reads an inode that is in use and verifies its checksum.
func (f *FS) node(number uint32) (*vnode, error) {
	raw, err := f.inodeRecord(number)
	if err != nil {
		return nil, wrapf(err, "inode %d", number)
	}
	nd := f.decodeNode(number, raw)
	if err := nd.verify(); err != nil {
		return nil, wrapf(err, "inode %d", number)
	}
	return nd, nil
}

// decodeNode decodes an inode's record without verifying it.
func (f *FS) decodeNode(number uint32, raw []byte) *vnode {
	nd := &vnode{fs: f, number: number, raw: raw}
	nd.decode(raw)
	nd.seed = inodeSeed(f.seed, number, nd.Generation)
	return nd
}

// verify checks the fields of an inode.
func (nd *vnode) verify() error {
	f := nd.fs
	if f.hasCsum {
		want := inodeChecksum(nd.seed, nd.raw)
		if !inodeHasExtra(nd.raw, inodeChecksumHiOffset+2) {
			want &= 0xFFFF
		}
		if nd.Checksum != want {
			return corruptf("checksum is %#08x, its bytes give %#08x", nd.Checksum, want)
		}
	}
	if nd.LinksCount == 0 {
		return corruptf("it is deleted, yet something refers to it")
	}
	if fileTypeOf(nd.Mode) == fileTypeUnknown {
		return corruptf("mode %#o is of no known file type", nd.Mode)
	}
	if goodOldInodeSize+int(nd.ExtraIsize) > max(len(nd.raw), goodOldInodeSize) || nd.ExtraIsize%4 != 0 {
		return corruptf("extra fields of %d bytes in a record of %d", nd.ExtraIsize, len(nd.raw))
	}
	if nd.Size > math.MaxInt64 || divUp(nd.Size, uint64(f.blockSize)) > fileBlocksEnd {
		return corruptf("size %d is beyond what ext4 can hold", nd.Size)
	}
	return nd.verifyFlags()
}

// verifyFlags returns an error for flags of features that Open refuses.
func (nd *vnode) verifyFlags() error {
	for _, refused := range []struct {
		flag uint32
		name string
	}{
		{inodeFlagInlineData, "inline_data"},
		{inodeFlagEncrypt, "encrypt"},
		{inodeFlagVerity, "verity"},
	} {
		if nd.Flags&refused.flag != 0 {
			return corruptf("it is flagged %s, a feature the file system does not have", refused.name)
		}
	}
	return nil
}

// isType reports whether the inode is of a modeXxx file type.
func (nd *vnode) isType(modeType uint16) bool { return nd.Mode&modeTypeMask == modeType }

// hasBlocks reports whether i_block maps blocks of data.
func (nd *vnode) hasBlocks() bool {
	switch nd.Mode & modeTypeMask {
	case modeRegular, modeDirectory:
		return true
	case modeSymlink:
		return !nd.isFastSymlink()
	}
	return false
}

// isFastSymlink reports whether the target is in i_block.
func (nd *vnode) isFastSymlink() bool {
	return nd.isType(modeSymlink) && nd.Size <= fastSymlinkMax && nd.Flags&inodeFlagExtents == 0
}

// sectors returns the inode's disk space in units of 512 bytes.
func (nd *vnode) sectors() uint64 {
	if nd.Flags&inodeFlagHugeFile != 0 && nd.fs.sb.FeatureROCompat&roCompatHugeFile != 0 {
		return nd.Blocks * uint64(nd.fs.blockSize/inodeSectorSize)
	}
	return nd.Blocks
}

// readlink returns a symbolic link's target.
func (nd *vnode) readlink() (string, error) {
	if nd.Size == 0 || nd.Size > maxSymlinkLen || nd.Size > uint64(nd.fs.blockSize) {
		return "", corruptf("inode %d: symbolic link of %d bytes", nd.number, nd.Size)
	}
	if nd.isFastSymlink() {
		return string(nd.Block[:nd.Size]), nil
	}
	target := make([]byte, nd.Size)
	if _, err := newContent(nd).ReadAt(target, 0); err != nil {
		return "", err
	}
	return string(target), nil
}

// Stat has the fields of an inode beyond [io/fs.FileInfo], whose Sys method returns it.
type Stat struct {
	Inode        uint32 // inode number; names that share it are hard links
	Mode         uint32 // Linux's st_mode: file type and permission bits
	UID, GID     uint32
	Nlink        uint32 // names of the inode; for directories 1 may mean "too many to count"
	Major, Minor uint32 // device number of a block or character device
	Blocks       uint64 // space taken, in units of 512 bytes
	Atime        time.Time
	Mtime        time.Time
	Ctime        time.Time
	Crtime       time.Time // creation; zero in inodes of 128 bytes, which do not have the field
}

// stat returns the inode's Stat.
func (nd *vnode) stat() *Stat {
	s := &Stat{
		Inode: nd.number, Mode: uint32(nd.Mode), UID: nd.UID, GID: nd.GID,
		Nlink: uint32(nd.LinksCount), Blocks: nd.sectors(),
		Atime: nd.Atime.time(), Mtime: nd.Mtime.time(), Ctime: nd.Ctime.time(),
	}
	if inodeHasExtra(nd.raw, 0x94) {
		s.Crtime = nd.Crtime.time()
	}
	if nd.isType(modeChar) || nd.isType(modeBlock) {
		s.Major, s.Minor = nd.decodeDevice()
	}
	return s
}

// time gives the timestamp as a time in UTC.
func (t timestamp) time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// fileMode translates st_mode.
func fileMode(mode uint16) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, bit := range []struct {
		disk uint16
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if mode&bit.disk != 0 {
			m |= bit.mode
		}
	}
	return m | typeMode(fileTypeOf(mode))
}

// typeMode returns the type bits for a directory entry's file type.
func typeMode(fileType uint8) fs.FileMode {
	switch fileType {
	case fileTypeRegular:
		return 0
	case fileTypeDirectory:
		return fs.ModeDir
	case fileTypeSymlink:
		return fs.ModeSymlink
	case fileTypeChar:
		return fs.ModeDevice | fs.ModeCharDevice
	case fileTypeBlock:
		return fs.ModeDevice
	case fileTypeFIFO:
		return fs.ModeNamedPipe
	case fileTypeSocket:
		return fs.ModeSocket
	}
	return fs.ModeIrregular
}
