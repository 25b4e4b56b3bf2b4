package lock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sovereign-sql/sov/internal/durable"
)

const heading = `# The exact inputs of recipes, pinned by digest. Written by sov build; commit it.
# sov build RECIPE --update-lock resolves again.
`

// Encode returns the content of a lock file: YAML with one line for each pin, so that a change of a
// package changes one line.
func (f *File) Encode() []byte {
	var b bytes.Buffer
	b.WriteString(heading)
	fmt.Fprintf(&b, "version: %d\nbuilds:", Version)
	if len(f.Builds) == 0 {
		b.WriteString(" []\n")
		return b.Bytes()
	}
	b.WriteString("\n")
	for _, e := range f.Builds {
		e.encode(&b)
	}
	return b.Bytes()
}

// quote returns a string in double quotes, with JSON's rules, which YAML accepts: versions like
// 1.10 must not be parsed as numbers.
func quote(s string) string { return strconv.Quote(s) }

func (e *Entry) encode(b *bytes.Buffer) {
	fmt.Fprintf(b, "  - recipe: %s\n    arch: %s\n    inputs:\n", quote(e.Recipe), quote(e.Arch))
	fmt.Fprintf(b, "      image: %s\n", quote(e.Inputs.Image))
	if e.Inputs.Kernel != "" {
		fmt.Fprintf(b, "      kernel: %s\n", quote(e.Inputs.Kernel))
	}
	list(b, "      ", "repositories", e.Inputs.Repositories)
	list(b, "      ", "packages", e.Inputs.Packages)
	fmt.Fprintf(b, "    image: {reference: %s, digest: %s}\n", quote(e.Image.Reference), quote(e.Image.Digest))
	if len(e.Copied) > 0 {
		b.WriteString("    copied:\n")
	}
	for _, i := range e.Copied {
		fmt.Fprintf(b, "      - {reference: %s, digest: %s}\n", quote(i.Reference), quote(i.Digest))
	}
	if k := e.Kernel; k != nil {
		fmt.Fprintf(b, "    kernel: {version: %s, source: %s, sha256: %s, size: %d}\n", quote(k.Version), quote(k.Source), quote(k.SHA256), k.Size)
	}
	if len(e.Files) > 0 {
		b.WriteString("    files:\n")
	}
	for _, f := range e.Files {
		fmt.Fprintf(b, "      - {path: %s, source: %s, sha256: %s}\n", quote(f.Path), quote(f.Source), quote(f.SHA256))
	}
	if e.Tailscale != "" {
		fmt.Fprintf(b, "    tailscale: %s\n", quote(e.Tailscale))
	}
	if len(e.Removed) > 0 {
		list(b, "    ", "removed", e.Removed)
	}
	b.WriteString("    packages:")
	if len(e.Packages) == 0 {
		b.WriteString(" []")
	}
	b.WriteString("\n")
	for _, p := range e.Packages {
		fmt.Fprintf(b, "      - {name: %s, version: %s, checksum: %s, size: %d, repository: %s",
			quote(p.Name), quote(p.Version), quote(p.Checksum), p.Size, quote(p.Repository))
		if p.SHA256 != "" && p.Files != "" {
			fmt.Fprintf(b, ", sha256: %s, files: %s", quote(p.SHA256), quote(p.Files))
		}
		b.WriteString("}\n")
	}
}

func list(b *bytes.Buffer, indent, key string, words []string) {
	b.WriteString(indent + key + ":")
	if len(words) == 0 {
		b.WriteString(" []")
	}
	b.WriteString("\n")
	for _, w := range words {
		b.WriteString(indent + "  - " + quote(w) + "\n")
	}
}

// Update adds or replaces an entry in the lock file at path, which need not exist, and keeps the
// others. It replaces the file atomically, and locks it against concurrent updates. It reports
// whether the content changed.
func Update(path string, e Entry) (changed bool, err error) {
	return update(path, func(f *File) { f.Put(e) })
}

// Complete adds the digests of e's packages to the same packages of the entry in the lock file at
// path. It does not change pins.
func Complete(path string, e Entry) (changed bool, err error) {
	return update(path, func(f *File) {
		if old, ok := f.Find(e.Recipe, e.Arch); ok {
			old.complete(e.Packages)
		}
	})
}

// complete copies the digests of the same packages from another list.
func (e *Entry) complete(from []Package) {
	for i, p := range e.Packages {
		for _, q := range from {
			if p.SHA256 == "" && p.Files == "" && q.Name == p.Name && q.Version == p.Version && q.Checksum == p.Checksum {
				e.Packages[i].SHA256, e.Packages[i].Files = q.SHA256, q.Files
			}
		}
	}
}

func update(path string, change func(*File)) (changed bool, err error) {
	changed, err = rewrite(path, change)
	if err != nil {
		var place *fs.PathError
		if errors.As(err, &place) {
			err = fmt.Errorf("%w (--lock FILE keeps it elsewhere)", err)
		}
		return false, fmt.Errorf("update lock %s: %w", path, err)
	}
	return changed, nil
}

func rewrite(path string, change func(*File)) (bool, error) {
	dir, err := durable.WaitLock(context.Background(), filepath.Dir(path), durable.Exclusive, durable.LockOptions{Existing: true})
	if err != nil {
		return false, err
	}
	defer dir.Release()
	f, err := Load(path)
	if err != nil {
		return false, err
	}
	change(f)
	content := f.Encode()
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return false, nil
	}
	return true, durable.WriteFile(path, content, 0o644)
}
