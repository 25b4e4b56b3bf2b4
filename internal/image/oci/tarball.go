package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sovereign-sql/sov/internal/bound"
)

// A tarFile is a tar with an image, and the result of scanning it.
type tarFile struct {
	path      string
	documents map[string][]byte // JSON at the top and among the blobs, by name
	kept      int               // bytes of documents
	sizes     map[string]int64  // of files at the top and among the blobs
	links     map[string]string // symbolic and hard links among them, and the files that they name
	layout    bool              // it has the oci-layout file
	top       map[string]bool   // top-level names that are typical of a root file system
	machine   string            // the architecture of its first program, or ""
}

// maxKept limits the documents of a tarball, in bytes.
const maxKept = 64 << 20

// openTarball reads an output of docker save, an OCI layout in a tar, or a root file system.
func openTarball(ref Reference, arch, digest string) (*foundImage, error) {
	t := &tarFile{path: ref.Path, documents: map[string][]byte{}, sizes: map[string]int64{}, links: map[string]string{}, top: map[string]bool{}}
	if err := t.scan(); err != nil {
		return nil, fmt.Errorf("read tarball: %w", err)
	}
	// Newer archives of docker save are also layouts. They are read as Docker reads them.
	_, dockerSave := t.sizes["manifest.json"]
	switch {
	case dockerSave:
		return t.openSaved(ref, arch, digest)
	case t.layout:
		index, err := t.read("index.json")
		if err != nil {
			return nil, fmt.Errorf("read tarball: %w", err)
		}
		return findInLayout(t, index, ref, arch, digest)
	}
	return t.openRoot(ref, arch)
}

// scan reads the tar once.
func (t *tarFile) scan() error {
	return eachEntry(t.path, func(h *tar.Header, name string, r io.Reader) error {
		first, _, below := strings.Cut(name, "/")
		if slices.Contains([]string{"bin", "etc", "lib", "sbin", "usr"}, first) {
			t.top[first] = true
		}
		switch h.Typeflag {
		case tar.TypeSymlink:
			t.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			t.links[name] = path.Clean(h.Linkname)
		case tar.TypeReg:
			t.layout = t.layout || name == "oci-layout"
			if !below || first == "blobs" {
				return t.keep(h, name, r)
			}
			t.sizes[name] = h.Size
			return t.identify(h, r)
		}
		return nil
	})
}

// keep records a file, with its content if it is a document.
func (t *tarFile) keep(h *tar.Header, name string, r io.Reader) error {
	t.sizes[name] = h.Size
	if h.Size > maxDocument || h.Size > int64(maxKept-t.kept) {
		return nil
	}
	start := make([]byte, min(h.Size, 16))
	if _, err := io.ReadFull(r, start); err != nil {
		return err
	}
	if trimmed := bytes.TrimSpace(start); len(trimmed) == 0 || trimmed[0] != '{' && trimmed[0] != '[' {
		return nil
	}
	b := make([]byte, h.Size)
	if _, err := io.ReadFull(r, b[copy(b, start):]); err != nil {
		return err
	}
	t.documents[name] = b
	t.kept += len(b)
	return nil
}

// identify detects the architecture of the programs in a root file system.
func (t *tarFile) identify(h *tar.Header, r io.Reader) error {
	header := make([]byte, 20)
	if t.machine != "" || h.Size < int64(len(header)) {
		return nil
	}
	if _, err := io.ReadFull(r, header); err != nil {
		return err
	}
	if !bytes.HasPrefix(header, []byte(elf.ELFMAG)) || header[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return nil
	}
	switch machine := elf.Machine(header[18]) | elf.Machine(header[19])<<8; machine {
	case elf.EM_AARCH64:
		t.machine = "arm64"
	case elf.EM_X86_64:
		t.machine = "amd64"
	default:
		t.machine = strings.ToLower(strings.TrimPrefix(machine.String(), "EM_"))
	}
	return nil
}

// eachEntry calls fn with the entries of a tar and their cleaned names, until fn returns
// fs.SkipAll.
func eachEntry(file string, fn func(h *tar.Header, name string, r io.Reader) error) error {
	f, err := openFile(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(h, path.Clean(h.Name), t); err != nil {
			if errors.Is(err, fs.SkipAll) {
				return nil
			}
			return err
		}
	}
}

// read returns a document.
func (t *tarFile) read(name string) ([]byte, error) {
	if b, ok := t.documents[name]; ok {
		return b, nil
	}
	size, ok := t.sizes[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("it has no %.80q: %w", name, errAbsent)
	case size > maxDocument || t.kept+int(size) > maxKept:
		return nil, fmt.Errorf("%.80q has more than the %d bytes of a document, or there are more than %d bytes of them: %w", name, maxDocument, maxKept, bound.ErrTooLarge)
	}
	return nil, fmt.Errorf("%.80q is not JSON", name)
}

func (t *tarFile) document(d v1.Descriptor) ([]byte, error) {
	return t.read("blobs/" + d.Digest.Algorithm + "/" + d.Digest.Hex)
}

func (t *tarFile) layer(d v1.Descriptor) (io.ReadCloser, error) {
	return t.open("blobs/"+d.Digest.Algorithm+"/"+d.Digest.Hex, false), nil
}

// open streams a file out of the tar, uncompressed if plain is set.
func (t *tarFile) open(name string, plain bool) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() {
		missing := true
		err := eachEntry(t.path, func(h *tar.Header, entry string, r io.Reader) error {
			if entry != name || h.Typeflag != tar.TypeReg {
				return nil
			}
			missing = false
			if plain {
				z, err := decompress(r)
				if err != nil {
					return err
				}
				defer z.Close()
				r = z
			}
			if _, err := io.Copy(pw, r); err != nil {
				return err
			}
			return fs.SkipAll
		})
		if err == nil && missing {
			err = fmt.Errorf("the tarball has no %.80q", name)
		}
		pw.CloseWithError(err)
	}()
	return pr
}

// A savedImage is an entry of the manifest.json that docker save writes.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// openSaved finds an image in an output of docker save.
func (t *tarFile) openSaved(ref Reference, arch, digest string) (*foundImage, error) {
	raw, err := t.read("manifest.json")
	if err != nil {
		return nil, fmt.Errorf("read tarball: %w", err)
	}
	var images []savedImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("read tarball: manifest.json: %w", err)
	}
	if len(images) > maxDocuments {
		return nil, fmt.Errorf("read tarball: %w: it has more than %d images", bound.ErrTooLarge, maxDocuments)
	}
	var found []*foundImage
	var all []string
	s := &search{arch: arch, digest: digest}
	tagged := false
	for _, img := range images {
		all = append(all, img.RepoTags...)
		if digest == "" && ref.Tag != "" && !isNamed(img.RepoTags, ref.Tag) {
			continue
		}
		tagged = true
		f, err := t.saved(img, s)
		if err != nil {
			return nil, fmt.Errorf("read tarball: %w", err)
		}
		if f != nil {
			found = append(found, f)
		}
	}
	switch {
	case !tagged && ref.Tag != "":
		return nil, noSuchName(ref.Tag, all)
	case len(found) == 0:
		return nil, s.missing()
	}
	return choose(ref, found)
}

// saved returns an image, or nil if it does not match the search.
func (t *tarFile) saved(img savedImage, s *search) (*foundImage, error) {
	config, err := t.read(path.Clean(img.Config))
	if err != nil {
		return nil, err
	}
	digest := sha256Of(config)
	if s.digest != "" && digest != s.digest {
		return nil, nil
	}
	c, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, fmt.Errorf("%.80q: %w", img.Config, err)
	}
	if s.digest == "" && !isFor(c, s.arch) {
		s.saw(c.OS, c.Architecture, c.Variant)
		return nil, nil
	}
	if len(img.Layers) != len(c.RootFS.DiffIDs) {
		return nil, fmt.Errorf("the manifest has %d layers, the configuration %d", len(img.Layers), len(c.RootFS.DiffIDs))
	}
	found := &foundImage{digest: digest, config: config, names: img.RepoTags}
	for i, l := range img.Layers {
		name := t.target(path.Clean(l))
		found.layers = append(found.layers, plainLayer(c.RootFS.DiffIDs[i].String(), func() (io.ReadCloser, error) { return t.open(name, true), nil }))
	}
	return found, nil
}

// target follows links: docker save before version 25 linked a layer that several images share.
func (t *tarFile) target(name string) string {
	const most = 10
	for range most {
		next, ok := t.links[name]
		if !ok {
			break
		}
		name = next
	}
	return name
}

// openRoot makes an image of a plain tar of a root file system.
func (t *tarFile) openRoot(ref Reference, arch string) (*foundImage, error) {
	if len(t.top) == 0 {
		return nil, errors.New("read tarball: it is neither what docker save or skopeo writes (no manifest.json, no oci-layout) nor a root file system (no /bin, /etc or /usr)")
	}
	if ref.Tag != "" {
		return nil, errors.New("read tarball: it is a root file system, which has no tags: leave the tag out")
	}
	open := func() (io.ReadCloser, error) { return openFile(t.path) }
	f, err := open()
	if err != nil {
		return nil, fmt.Errorf("read tarball: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return nil, fmt.Errorf("read tarball: %w", err)
	}
	diffID := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if t.machine != "" {
		arch = t.machine
	}
	config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, arch, diffID)
	return &foundImage{digest: sha256Of(config), config: config, layers: []Layer{plainLayer(diffID, open)}}, nil
}
