package ext4

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sovereign-sql/sov/internal/image/tree"
)

// A memory is a target in memory.
type memory struct{ b []byte }

func (m *memory) Truncate(size int64) error {
	m.b = append(m.b[:min(size, int64(len(m.b)))], make([]byte, max(0, size-int64(len(m.b))))...)
	return nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(m.b)) {
		return 0, io.ErrShortWrite
	}
	return copy(m.b[off:], p), nil
}

// memoryTar makes a tar with these headers. Each file contains Size random bytes.
func memoryTar(t testing.TB, headers ...*tar.Header) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i, h := range headers {
		h.ModTime = time.Unix(int64(i)<<28, int64(i))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(randomBytes(uint64(i), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// FuzzWriteReadsBack writes an image of every tar that makes a valid tree. The reader must find no
// problem in it and return the same tree.
func FuzzWriteReadsBack(f *testing.F) {
	attrs := map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": strings.Repeat("c", 70)}
	f.Add(memoryTar(f, &tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Size: 5000, PAXRecords: attrs, Uid: 70000},
		&tar.Header{Typeflag: tar.TypeLink, Name: "c", Linkname: "a/b"}, &tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}), uint8(0))
	f.Add(memoryTar(f, &tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: strings.Repeat("t", 60)},
		&tar.Header{Typeflag: tar.TypeChar, Name: "d", Devmajor: 259, Devminor: 70000}), uint8(1))
	var many []*tar.Header
	for i := range 30 {
		many = append(many, &tar.Header{Typeflag: tar.TypeReg, Name: "d/" + strings.Repeat(string(rune('a'+i)), 60)})
	}
	f.Add(memoryTar(f, many...), uint8(3))
	f.Add(memoryTar(f, many...), uint8(8))
	f.Fuzz(func(t *testing.T, archive []byte, flags uint8) {
		want := tree.New()
		if err := want.ApplyTar(bytes.NewReader(archive), int64(len(archive)), tree.TarOptions{}); err != nil {
			return
		}
		o := Options{BlockSize: 1024 << (flags & 3)}
		if flags&4 != 0 {
			o.Size = 4 << 20
		}
		if flags&8 != 0 {
			o.Size, o.GrowTo, o.UUID = 16<<20, 1<<30, [16]byte{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89}
		}
		target := &memory{}
		stats, err := Write(context.Background(), &limited{target, 64 << 20}, want, o)
		if err != nil {
			return // ext4 cannot hold the tree
		}
		fs, err := Open(bytes.NewReader(target.b), stats.Size)
		if err != nil {
			t.Fatal(err)
		}
		wantClean(t, fs)
		if got := rewritten(t, fs, want); got != "" {
			t.Error(got)
		}
	})
}

// limited refuses to grow beyond most bytes.
type limited struct {
	*memory
	most int64
}

func (l *limited) Truncate(size int64) error {
	if size > l.most {
		return io.ErrShortWrite
	}
	return l.memory.Truncate(size)
}

// rewritten lists the differences between the tree of an image and its source.
func rewritten(t *testing.T, fs *FS, want *tree.Tree) string {
	got, err := fs.Tree()
	if err != nil {
		return err.Error()
	}
	if _, ok := want.Lookup(lostAndFoundName); !ok {
		got.Remove(lostAndFoundName)
	}
	if err := want.Walk(func(p string, n *tree.Inode) error {
		n.ModTime = time.Unix(timestampOf(n.ModTime).Sec, int64(timestampOf(n.ModTime).Nsec))
		if n.Content.Size > 64<<20 {
			n.Content = tree.Content{} // takes long to compare
			if g, ok := got.Lookup(p); ok {
				g.Content = tree.Content{}
			}
		}
		return nil
	}); err != nil {
		return err.Error()
	}
	changes, err := tree.Diff(want, got)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(c.Path + " " + c.Kind + " " + strings.Join(c.What, ", ") + "\n")
	}
	return b.String()
}
