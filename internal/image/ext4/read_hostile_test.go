package ext4

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// patient is a seed image without checksums, which tests modify.
type patient struct {
	image []byte
	fs    *FS
}

func newPatient(t *testing.T, seed string) *patient {
	t.Helper()
	image := bytes.Clone(seedImages(t)["testdata/"+seed+".img.gz"])
	f, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return &patient{image: image, fs: f}
}

// block returns the bytes of a block.
func (p *patient) block(n uint64) []byte { return p.image[p.fs.blockOffset(n):][:p.fs.blockSize] }

// spare returns the number of an unused block, the last.
func (p *patient) spare() uint64 { return p.fs.blocks - 1 }

// change applies fn to the inode at a path.
func (p *patient) change(t *testing.T, path string, fn func(*inode)) {
	t.Helper()
	at, err := p.fs.resolve(path, false)
	if err != nil {
		t.Fatal(err)
	}
	nd := at.node
	off := p.fs.blockOffset(p.fs.groups[0].InodeTable) + int64(nd.number-1)*int64(p.fs.inodeSize)
	in := nd.inode
	fn(&in)
	in.encode(p.image[off:])
}

// wantDamage requires that Tree and Check end and report damage that contains part.
func (p *patient) wantDamage(t *testing.T, part string) {
	t.Helper()
	f, err := Open(bytes.NewReader(p.image), int64(len(p.image)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Tree(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Tree: %v, want ErrCorrupt", err)
	}
	p.wantProblem(t, part)
}

// wantProblem requires that Check reports a problem that contains part.
func (p *patient) wantProblem(t *testing.T, part string) {
	t.Helper()
	f, err := Open(bytes.NewReader(p.image), int64(len(p.image)))
	if err != nil {
		t.Fatal(err)
	}
	problems, err := f.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, problem := range problems {
		all = append(all, problem.String())
	}
	if text := strings.Join(all, "\n"); !strings.Contains(text, part) {
		t.Errorf("problems have no %q:\n%s", part, text)
	}
}

// TestPointersToThemselves reads a file whose pointer blocks are all one block that points to
// itself: sixteen million blocks from one.
func TestPointersToThemselves(t *testing.T) {
	p := newPatient(t, "blockmaps")
	b := p.spare()
	for i := 0; i < p.fs.blockSize; i += pointerSize {
		le.PutUint32(p.block(b)[i:], uint32(b))
	}
	p.change(t, "sparse", func(in *inode) {
		for i := directPointers; i < directPointers+3; i++ {
			le.PutUint32(in.Block[i*pointerSize:], uint32(b))
		}
		in.Size = 1 << 34
	})
	p.wantDamage(t, "claimed by something else too")
}

// TestEmptyPointersShared is the same with holes for data, which do not claim blocks.
func TestEmptyPointersShared(t *testing.T) {
	p := newPatient(t, "blockmaps")
	zero, b := p.spare(), p.spare()-1
	for i := 0; i < p.fs.blockSize; i += pointerSize {
		le.PutUint32(p.block(b)[i:], uint32(zero))
	}
	p.change(t, "sparse", func(in *inode) {
		le.PutUint32(in.Block[(directPointers+1)*pointerSize:], uint32(b))
		in.Size = 1 << 26
	})
	p.wantProblem(t, "claimed by something else too")
}

// TestExtentNodeInCircle reads a file whose extent index points to itself.
func TestExtentNodeInCircle(t *testing.T) {
	p := newPatient(t, "extents")
	b := p.spare()
	node := func(to []byte, depth uint16) {
		(&extentHeader{Magic: extentMagic, Entries: 1, Max: extentRootMax, Depth: depth}).encode(to)
		(&extentIdx{Block: 0, Leaf: b}).encode(to[extentHeaderSize:])
	}
	node(p.block(b), 4)
	p.change(t, "sparse", func(in *inode) { node(in.Block[:], 5) })
	p.wantDamage(t, "at depth 3")
	p.change(t, "sparse", func(in *inode) { node(in.Block[:], 0xFFFF) })
	p.wantDamage(t, "extent tree of depth 65535")
}

// TestHugeFile opens a file of the largest size that consists of one hole.
func TestHugeFile(t *testing.T) {
	p := newPatient(t, "extents")
	const size = 1 << 42
	p.change(t, "sparse", func(in *inode) {
		(&extentHeader{Magic: extentMagic, Max: extentRootMax}).encode(in.Block[:])
		in.Size = size
	})
	f, err := Open(bytes.NewReader(p.image), int64(len(p.image)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFile("sparse"); err == nil {
		t.Error("ReadFile reads four tebibytes at once")
	}
	files, err := f.Tree()
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := files.Lookup("sparse"); !ok || n.Content.Size != size || len(n.Content.Extents) != 0 {
		t.Errorf("in the tree: %+v", n)
	}
	p.change(t, "sparse", func(in *inode) { in.Size = size + 1 })
	p.wantDamage(t, "beyond what ext4 can hold")
}

// TestDirectoryOfOneBlock reads a directory that contains the same block repeatedly. A small image
// could otherwise hold more names than fit into memory.
func TestDirectoryOfOneBlock(t *testing.T) {
	p := newPatient(t, "extents")
	at, err := p.fs.resolve("many", false)
	if err != nil {
		t.Fatal(err)
	}
	w, err := at.node.windowAt(0)
	if err != nil {
		t.Fatal(err)
	}
	p.change(t, "many", func(in *inode) {
		(&extentHeader{Magic: extentMagic, Entries: 3, Max: extentRootMax}).encode(in.Block[:])
		for i, start := range []uint64{w.at(0).start, p.spare(), p.spare()} {
			(&extent{Block: uint32(i), Len: 1, Start: start}).encode(in.Block[extentHeaderSize+i*extentEntrySize:])
		}
		in.Size = 3 * uint64(p.fs.blockSize)
	})
	(&direntHeader{RecLen: uint32(p.fs.blockSize)}).encode(p.block(p.spare()), p.fs.blockSize) // one unused entry
	p.wantDamage(t, "block 2 is one that stood before it")
}

// TestTreeBoundsXattrs reads a tree with a limit below the size of the image's attributes: 300
// bytes of one directory, and a name.
func TestTreeBoundsXattrs(t *testing.T) {
	p := newPatient(t, "extents")
	if _, err := p.fs.treeWith(250); err == nil || !strings.Contains(err.Error(), "extended attributes") {
		t.Errorf("error %v, want one about extended attributes", err)
	}
	if _, err := p.fs.treeWith(500); err != nil {
		t.Error(err)
	}
}

// TestCheckIndex damages the hash index of a directory. The reader here does not use the index; the
// kernel does.
func TestCheckIndex(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(block []byte)
		want   string
	}{
		{"hash", func(b []byte) { le.PutUint32(b[dxRootCountOffset+dxEntrySize:], 0x10) }, "its index says"},
		{"order", func(b []byte) { le.PutUint32(b[dxRootCountOffset+dxEntrySize:], 0xFFFFFFF0) }, "its index says"},
		{"twice", func(b []byte) { le.PutUint32(b[dxRootCountOffset+dxEntrySize+4:], 1) }, "twice"},
		{"nowhere", func(b []byte) { le.PutUint32(b[dxRootCountOffset+dxEntrySize+4:], 1000) }, "which holds no entries"},
		{"count", func(b []byte) { le.PutUint16(b[dxRootCountOffset+2:], 1) }, "hash index leads to"},
		{"version", func(b []byte) { b[dxRootInfoOffset+4] = 9 }, "index hash version 9"},
		{"levels", func(b []byte) { b[dxRootInfoOffset+6] = 1 }, "which is none of it"},
	} {
		p := newPatient(t, "extents")
		at, err := p.fs.resolve("many", false)
		if err != nil {
			t.Fatal(err)
		}
		if !at.node.isIndexed() {
			t.Fatal("the seed's directory has no index")
		}
		w, err := at.node.windowAt(0)
		if err != nil {
			t.Fatal(err)
		}
		c.damage(p.block(w.at(0).start))
		t.Run(c.name, func(t *testing.T) { p.wantProblem(t, c.want) })
	}
}
