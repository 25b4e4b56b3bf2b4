package lock

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sovereign-sql/sov/internal/arch"
	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/strictyaml"
)

// maxFile is the largest lock, in bytes: a build of a thousand packages has 300 KiB.
const maxFile = 64 << 20

// Load reads the lock file at path. A missing file is an empty lock.
func Load(path string) (*File, error) {
	src, err := bound.ReadFile(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{Version: Version}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	return Parse(path, src)
}

// Parse reads the content of a lock file strictly. name stands in messages; the
// error is of type strictyaml.Errors.
func Parse(name string, src []byte) (*File, error) {
	f := &File{}
	doc, err := strictyaml.Decode(name, src, f)
	if err != nil {
		return nil, err
	}
	if f.Version != Version {
		doc.Faultf("version", "is %d, this sov reads %d; move the file away, and the next build makes a new one", f.Version, Version)
		return nil, doc.Err()
	}
	c := checker{doc}
	for i, e := range f.Builds {
		at := strictyaml.Index("builds", i)
		c.entry(at, e)
		if first, _ := f.Find(e.Recipe, e.Arch); first != &f.Builds[i] {
			doc.Faultf(at, "a second entry for recipe %q on %s", e.Recipe, e.Arch)
		}
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return f, nil
}

// A checker validates the values of a lock, mainly for their use in paths and URLs.
type checker struct{ doc *strictyaml.Document }

func (c checker) require(ok bool, path, format string, args ...any) {
	if !ok {
		c.doc.Faultf(path, format, args...)
	}
}

func (c checker) entry(at string, e Entry) {
	c.require(e.Recipe != "", at+".recipe", "is missing")
	c.require(arch.Valid(e.Arch), at+".arch", "%q: must be %s", e.Arch, arch.Allowed())
	c.image(at+".image", e.Image)
	for i, image := range e.Copied {
		c.image(strictyaml.Index(at+".copied", i), image)
	}
	if k := e.Kernel; k != nil {
		c.require(k.Version != "" && k.Source != "", at+".kernel", "has no version or no source")
		c.require(isSHA256(k.SHA256), at+".kernel.sha256", "%q is not 64 hexadecimal digits", k.SHA256)
		c.require(k.Size > 0, at+".kernel.size", "%d is not the size of an archive", k.Size)
	}
	for i, f := range e.Files {
		at := strictyaml.Index(at+".files", i)
		c.require(f.Path != "" && f.Source != "", at, "has no path or no source")
		c.require(isSHA256(f.SHA256), at+".sha256", "%q is not 64 hexadecimal digits", f.SHA256)
	}
	names := map[string]bool{}
	for i, p := range e.Packages {
		at := strictyaml.Index(at+".packages", i)
		c.pkg(at, p)
		c.require(!names[p.Name], at+".name", "package %q is listed twice", p.Name)
		names[p.Name] = true
	}
}

func (c checker) image(at string, i Image) {
	c.require(i.Reference != "", at, "has no reference")
	c.require(isSHA256(strings.TrimPrefix(i.Digest, "sha256:")) && strings.HasPrefix(i.Digest, "sha256:"),
		at+".digest", "%q is not sha256: and 64 hexadecimal digits", i.Digest)
}

func (c checker) pkg(at string, p Package) {
	for what, word := range map[string]string{"name": p.Name, "version": p.Version} {
		c.require(word != "" && !strings.ContainsAny(word, "/\\?#% \t\n\x00") && word[0] != '.', at+"."+what, "%q is not a package's %s", word, what)
	}
	c.require(strings.HasPrefix(p.Checksum, "Q1") || strings.HasPrefix(p.Checksum, "Q2"), at+".checksum", "%q is neither a Q1 nor a Q2 checksum", p.Checksum)
	c.require(p.Size > 0, at+".size", "%d is not the size of a package", p.Size)
	c.require(p.Repository != "", at+".repository", "is missing")
	c.require(p.SHA256 == "" || isSHA256(p.SHA256), at+".sha256", "%q is not 64 hexadecimal digits", p.SHA256)
	c.require(p.Files == "" || isSHA256(p.Files), at+".files", "%q is not 64 hexadecimal digits", p.Files)
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}
