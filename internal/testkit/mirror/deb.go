package mirror

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/sovereign-sql/sov/internal/testkit/apkbuild"
)

const (
	controlMax = 16 << 20  // bytes of a control tar, decompressed
	dataMax    = 256 << 20 // bytes of a data tar, decompressed
	entryHint  = 40 << 20  // bytes; the largest files have about this size
)

// A deb is a Debian package whose files are not read yet.
type deb struct {
	name         string
	version      string
	architecture string
	source       string // source package; name if they are the same
	summary      string // first line of the description
	homepage     string
	sonames      []string // of the libraries in it, from its shlibs file

	data     *io.SectionReader // the data member, compressed
	dataName string            // "data.tar.xz"
}

// openDeb opens a Debian package of size bytes and reads its metadata.
func openDeb(r io.ReaderAt, size int64) (*deb, error) {
	members, err := readAr(r, size)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 || members[0].name != "debian-binary" {
		return nil, errors.New("it is not a Debian package: its first member is not debian-binary")
	}
	d := &deb{}
	control := false
	for _, m := range members[1:] {
		switch {
		case strings.HasPrefix(m.name, "control.tar"):
			control = true
			if err := d.readControl(m); err != nil {
				return nil, fmt.Errorf("read %s: %w", m.name, err)
			}
		case strings.HasPrefix(m.name, "data.tar"):
			d.data, d.dataName = m.data, m.name
		}
	}
	if !control || d.data == nil {
		return nil, errors.New("it lacks a control or a data member")
	}
	if d.name == "" || d.version == "" {
		return nil, errors.New("its control file names no package or no version")
	}
	return d, nil
}

// decompress returns a reader of a member's decompressed content, in the format of the name's
// ending. The reader fails after limit bytes.
func decompress(r io.Reader, name string, limit int64) (io.ReadCloser, error) {
	var plain io.Reader
	closer := func() error { return nil }
	switch path.Ext(name) {
	case ".tar":
		plain = r
	case ".gz":
		zr, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		plain = zr
	case ".xz":
		zr, err := xz.NewReader(bufio.NewReaderSize(r, 1<<16))
		if err != nil {
			return nil, err
		}
		plain = zr
	case ".zst":
		zr, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		plain, closer = zr, func() error { zr.Close(); return nil }
	default:
		return nil, fmt.Errorf("unknown compression %q (known: .gz .xz .zst)", path.Ext(name))
	}
	return struct {
		io.Reader
		io.Closer
	}{&limitedReader{plain, limit}, closerFunc(closer)}, nil
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// A limitedReader fails, instead of ending, when its limit is exceeded.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errors.New("it decompresses to more than a package of its kind has")
	}
	return n, err
}

func (d *deb) readControl(m arMember) error {
	plain, err := decompress(m.data, m.name, controlMax)
	if err != nil {
		return err
	}
	defer plain.Close()
	return eachTarEntry(plain, func(h *tar.Header, content []byte) error {
		switch path.Clean(h.Name) {
		case "control":
			d.parseControl(content)
		case "shlibs":
			d.sonames = parseShlibs(content)
		}
		return nil
	})
}

// eachTarEntry calls fn with each entry and its content.
func eachTarEntry(r io.Reader, fn func(*tar.Header, []byte) error) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		// Allocate the size in the header, at most entryHint.
		var content bytes.Buffer
		content.Grow(int(min(max(h.Size, 0), entryHint)))
		if _, err := io.Copy(&content, tr); err != nil {
			return fmt.Errorf("read %s: %w", h.Name, err)
		}
		if err := fn(h, content.Bytes()); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// parseControl reads a control file's fields (deb-control(5)).
func (d *deb) parseControl(text []byte) {
	for line := range strings.Lines(string(text)) {
		field, value, found := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		if !found || strings.HasPrefix(field, " ") {
			continue
		}
		value = strings.TrimSpace(value)
		switch field {
		case "Package":
			d.name = value
		case "Version":
			d.version = value
		case "Architecture":
			d.architecture = value
		case "Source":
			d.source, _, _ = strings.Cut(value, " ")
		case "Description":
			d.summary = value
		case "Homepage":
			d.homepage = value
		}
	}
	if d.source == "" {
		d.source = d.name
	}
}

// parseShlibs parses a shlibs file (deb-shlibs(5)). Each line names a library and its version. They
// form a soname in one of two ways; parseShlibs returns both.
func parseShlibs(text []byte) []string {
	var sonames []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.HasSuffix(fields[0], ":") {
			continue
		}
		sonames = append(sonames, fields[0]+".so."+fields[1], fields[0]+"-"+fields[1]+".so")
	}
	return sonames
}

// files returns the package's files, except those for which skip returns true.
func (d *deb) files(skip func(name string) bool) ([]apkbuild.File, error) {
	plain, err := decompress(io.NewSectionReader(d.data, 0, d.data.Size()), d.dataName, dataMax)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	var files []apkbuild.File
	err = eachTarEntry(plain, func(h *tar.Header, content []byte) error {
		name := path.Clean(h.Name)
		if name == "." || skip(name) {
			return nil
		}
		f, err := fileOf(name, h, content)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func fileOf(name string, h *tar.Header, content []byte) (apkbuild.File, error) {
	f := apkbuild.File{
		Name: name, Type: apkbuild.Type(h.Typeflag), Mode: h.Mode & 0o7777,
		UID: h.Uid, GID: h.Gid, Owner: h.Uname, Group: h.Gname,
		ModTime: h.ModTime, Target: h.Linkname, Data: content,
		Major: h.Devmajor, Minor: h.Devminor,
	}
	switch f.Type {
	case apkbuild.HardLink:
		f.Target = path.Clean(h.Linkname)
	case apkbuild.Regular, apkbuild.Symlink, apkbuild.Directory:
	default:
		return f, fmt.Errorf("a file of type %q in a package", h.Typeflag)
	}
	for key, value := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if f.Xattrs == nil {
				f.Xattrs = map[string][]byte{}
			}
			f.Xattrs[attr] = []byte(value)
		}
	}
	return f, nil
}

// openDebFile opens the package in a file. The file must stay open while the package is used; close
// closes it.
func openDebFile(name string) (d *deb, close func() error, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		d, err = openDeb(f, info.Size())
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("open Debian package %s: %w", name, err)
	}
	return d, f.Close, nil
}
