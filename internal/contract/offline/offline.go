// Package offline is the format of bundles: one file with all external inputs of a locked build,
// for building without a network, or after the inputs have disappeared from their servers.
//
// A bundle is a tar. Its first member, sov-bundle.json, lists the items, each with its kind, a name
// that is unique among them, size and SHA-256; the others are the items' contents, blobs/SHA256, in
// the order of the list and each once. It has no times, owners or compression: the same items give
// the same file.
//
// Every item is compared with its SHA-256 while it is read. The reader must compare it with the
// lock, as if it came from the network: a bundle is not trusted more than any other source.
package offline

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Format is the version written and read.
const Format = 1

// IndexName is the first member of the tar.
const IndexName = "sov-bundle.json"

// A Kind is the kind of an item, and determines the meaning of its name.
type Kind string

// Kinds of items.
const (
	Recipe        Kind = "recipe"         // its source; the name is the recipe's
	Lock          Kind = "lock"           // a lock with one entry; the name is LockName
	ImageManifest Kind = "image-manifest" // of the base image; the name is the image's digest
	ImageConfig   Kind = "image-config"   // likewise
	Layer         Kind = "layer"          // a layer's uncompressed tar; the name is its diff ID
	Package       Kind = "package"        // an Alpine package; the name is its checksum, as the lock has it
	KernelSource  Kind = "kernel-source"  // an archive; the name is its SHA-256
	File          Kind = "file"           // a file of the recipe; the name is its SHA-256
	Module        Kind = "module"         // a file of a Go module; the name is its path below a module proxy
)

// LockName is the name of a bundle's lock.
const LockName = "sov.lock"

// An Item is one thing in a bundle.
type Item struct {
	Kind   Kind   `json:"kind"`
	Name   string `json:"name"`
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // 64 hexadecimal digits
}

// An Index is the content of sov-bundle.json.
type Index struct {
	Format int    `json:"format"`
	Recipe string `json:"recipe"`
	Arch   string `json:"arch"` // "arm64" or "amd64"
	Items  []Item `json:"items"`
}

// Limits of what is read.
const (
	maxIndex = 16 << 20
	maxItems = 100_000
	maxSmall = 64 << 20 // largest result of Bytes
)

// Find returns an item.
func (x *Index) Find(kind Kind, name string) (Item, bool) {
	for _, i := range x.Items {
		if i.Kind == kind && i.Name == name {
			return i, true
		}
	}
	return Item{}, false
}

func (x *Index) validate() error {
	if x.Format != Format {
		return fmt.Errorf("its format is %d, this sov reads %d", x.Format, Format)
	}
	if len(x.Items) > maxItems {
		return fmt.Errorf("it lists %d items, more than the %d that one may have", len(x.Items), maxItems)
	}
	seen := map[[2]string]bool{}
	sizes := map[string]int64{}
	for _, i := range x.Items {
		id := [2]string{string(i.Kind), i.Name}
		if sum, err := hex.DecodeString(i.SHA256); err != nil || len(sum) != 32 || strings.ToLower(i.SHA256) != i.SHA256 || i.Size < 0 || i.Name == "" || seen[id] {
			return fmt.Errorf("item %s %.80q has no proper name, size and SHA-256, or is listed twice", i.Kind, i.Name)
		}
		if size, ok := sizes[i.SHA256]; ok && size != i.Size {
			return fmt.Errorf("item %s %.80q has another size than one of the same SHA-256", i.Kind, i.Name)
		}
		// The name becomes a path below a folder of the build.
		if i.Kind == Module && (!fs.ValidPath(i.Name) || strings.ContainsAny(i.Name, "\\\x00") || strings.HasPrefix(path.Base(i.Name), ".")) {
			return fmt.Errorf("module file %.80q is not a path below a folder", i.Name)
		}
		if (i.Kind == KernelSource || i.Kind == File) && i.Name != i.SHA256 || i.Kind == Layer && i.Name != "sha256:"+i.SHA256 {
			return fmt.Errorf("%s %.80q is named for another SHA-256 than it has", i.Kind, i.Name)
		}
		seen[id], sizes[i.SHA256] = true, i.Size
	}
	return nil
}

func blobName(sum string) string { return "blobs/" + sum }

// Write writes a bundle. open returns an item's content, which must match the item's size and
// digest.
func Write(w io.Writer, x *Index, open func(Item) (io.ReadCloser, error)) error {
	if err := x.validate(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(x); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	t := tar.NewWriter(w)
	if err := member(t, IndexName, int64(text.Len()), &text); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	written := map[string]bool{}
	for _, i := range x.Items {
		if written[i.SHA256] {
			continue
		}
		written[i.SHA256] = true
		if err := writeItem(t, i, open); err != nil {
			return fmt.Errorf("write %s %s to the bundle: %w", i.Kind, i.Name, err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

func writeItem(t *tar.Writer, i Item, open func(Item) (io.ReadCloser, error)) error {
	body, err := open(i)
	if err != nil {
		return err
	}
	defer body.Close()
	return member(t, blobName(i.SHA256), i.Size, newVerifier(body, i))
}

func member(t *tar.Writer, name string, size int64, r io.Reader) error {
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(t, r)
	return err
}

// A Bundle is an open bundle. A nil Bundle is empty.
type Bundle struct {
	Index
	f       *os.File
	text    []byte           // the exact bytes of the index
	offsets map[string]int64 // of contents, by SHA-256
}

// Open opens a bundle and checks that it has everything that its index lists.
func Open(name string) (*Bundle, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open bundle: %w: `sov bundle RECIPE -o FILE` writes one", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	b, err := read(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open bundle %s: %w", name, err)
	}
	return b, nil
}

// errNoBundle is the error for a file with another first member.
var errNoBundle = errors.New("it is not a bundle: its first member is not " + IndexName + ": `sov bundle RECIPE -o FILE` writes one")

func read(f *os.File) (*Bundle, error) {
	b := &Bundle{f: f, offsets: map[string]int64{}}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	t := tar.NewReader(f)
	h, err := t.Next()
	if err != nil || h.Name != IndexName || h.Typeflag != tar.TypeReg {
		return nil, errNoBundle
	}
	if h.Size > maxIndex {
		return nil, fmt.Errorf("its index has %d bytes, at most %d are expected", h.Size, maxIndex)
	}
	if b.text, err = io.ReadAll(t); err != nil {
		return nil, cutOff(err)
	}
	if err := json.Unmarshal(b.text, &b.Index); err != nil {
		return nil, fmt.Errorf("read its index: %w", err)
	}
	if err := b.validate(); err != nil {
		return nil, err
	}
	return b, b.locate(t, info.Size())
}

// locate records the offset of each content: after reading a header, the file's offset is there.
// Members must be in the order of the index.
func (b *Bundle) locate(t *tar.Reader, size int64) error {
	end, err := b.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	for _, i := range b.Items {
		if _, ok := b.offsets[i.SHA256]; ok {
			continue
		}
		h, err := t.Next()
		if err != nil {
			return cutOff(err)
		}
		at, err := b.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if h.Name != blobName(i.SHA256) || h.Typeflag != tar.TypeReg || h.Size != i.Size {
			return fmt.Errorf("in place of %s %.80q there is a member %.80q of %d bytes", i.Kind, i.Name, h.Name, h.Size)
		}
		if at > size-i.Size {
			return cutOff(io.ErrUnexpectedEOF)
		}
		b.offsets[i.SHA256], end = at, at+i.Size
	}
	// Padding to a whole block, and two blocks of zeros (POSIX.1, pax, "ustar Interchange Format").
	switch end = (end+511)/512*512 + 1024; {
	case size < end:
		return cutOff(io.ErrUnexpectedEOF)
	case size > end:
		return errors.New("it has more than it lists")
	}
	return nil
}

func cutOff(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is cut off: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read it: %w", err)
}

// Close closes the file.
func (b *Bundle) Close() error {
	if b == nil {
		return nil
	}
	return b.f.Close()
}

// Open opens an item. Reading it to its end fails if its SHA-256 does not match. The error for a
// missing item matches fs.ErrNotExist. Several items may be read at once.
func (b *Bundle) Open(kind Kind, name string) (io.ReadCloser, int64, error) {
	if b == nil {
		return nil, 0, fs.ErrNotExist
	}
	i, ok := b.Find(kind, name)
	if !ok {
		return nil, 0, fmt.Errorf("the bundle has no %s %s: %w", kind, name, fs.ErrNotExist)
	}
	return io.NopCloser(newVerifier(io.NewSectionReader(b.f, b.offsets[i.SHA256], i.Size), i)), i.Size, nil
}

// Bytes returns an item of at most 64 MiB.
func (b *Bundle) Bytes(kind Kind, name string) ([]byte, error) {
	r, size, err := b.Open(kind, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > maxSmall {
		return nil, fmt.Errorf("%s %s of the bundle has %d bytes, at most %d are expected", kind, name, size, maxSmall)
	}
	return io.ReadAll(r)
}

// A verifier returns an error at the end if the content does not match the item.
type verifier struct {
	r    io.Reader
	item Item
	sum  hash.Hash
	n    int64
}

func newVerifier(r io.Reader, i Item) *verifier { return &verifier{r: r, item: i, sum: sha256.New()} }

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	v.n += int64(n)
	if err == io.EOF {
		if got := hex.EncodeToString(v.sum.Sum(nil)); got != v.item.SHA256 || v.n != v.item.Size {
			return n, fmt.Errorf("%s %s of the bundle has %d bytes with SHA-256 %.12s…, not %d with %.12s…: it was damaged or tampered with",
				v.item.Kind, v.item.Name, v.n, got, v.item.Size, v.item.SHA256)
		}
	}
	return n, err
}
