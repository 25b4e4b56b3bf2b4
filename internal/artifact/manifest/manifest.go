// Package manifest is the format of manifest.json, the list of an artifact's
// files with their sizes and digests and of everything it was made from.
//
// The same build gives the same manifest: it names no time, machine, user or
// directory.
package manifest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/image/verity"
)

// Format is the version written and read.
const Format = 1

// A Manifest is the content of manifest.json.
type Manifest struct {
	Format      int     `json:"format"`
	Name        string  `json:"name"`    // the recipe's
	Version     string  `json:"version"` // the recipe's
	Description string  `json:"description,omitempty"`
	Arch        string  `json:"arch"`  // "arm64" or "amd64"
	Files       []File  `json:"files"` // by name
	Inputs      []Input `json:"inputs"`
	// Verity is the hash tree behind the root file system; nil in a machine of an earlier sov,
	// whose kernel does not check what it reads.
	Verity *Verity `json:"verity,omitempty"`
	// Postgres are the major versions of PostgreSQL that it has: two in one that upgrades
	// databases. Empty: none, or an artifact of an earlier sov, see PostgresMajors.
	Postgres []int `json:"postgres,omitempty"`
}

// PostgresMajors returns the major versions of PostgreSQL that the artifact has, of one of an
// earlier sov by its packages. Empty: none is known.
func (m *Manifest) PostgresMajors() []int {
	majors := slices.Clone(m.Postgres)
	for _, in := range m.Inputs {
		if major := lock.ServerMajor(in.Name); major != 0 && in.Kind == "package" && len(m.Postgres) == 0 {
			majors = append(majors, major)
		}
	}
	return majors
}

// A Verity is a hash tree behind the data of a file, see package verity.
type Verity struct {
	File     string `json:"file"`      // artifact.RootfsFile
	DataSize int64  `json:"data_size"` // bytes that the tree covers
	RootHash string `json:"root_hash"` // 64 hexadecimal digits
}

// Root returns the root hash.
func (v *Verity) Root() (verity.Digest, error) { return verity.ParseDigest(v.RootHash) }

// A File is one file of the artifact.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // 64 hexadecimal digits
}

// An Input is something from outside that the artifact was made from.
type Input struct {
	Kind    string `json:"kind"` // "recipe", "image", "package", "kernel", "file" or "module"
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Source  string `json:"source,omitempty"` // where it came from: reference, repository or URL
	Digest  string `json:"digest,omitempty"` // "sha256:…", or a package's "Q1…" or "Q2…"
}

// File returns the entry of a file.
func (m *Manifest) File(name string) (File, bool) {
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Name == name })
	if i < 0 {
		return File{}, false
	}
	return m.Files[i], true
}

// Encode returns the file's content, indented for reading.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // ">" is common in package constraints
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return nil, fmt.Errorf("encode %s: %w", artifact.ManifestFile, err)
	}
	return b.Bytes(), nil
}

// Decode reads a manifest and checks its form. Keys that it does not know are
// passed over, so that a later sov may add to the format.
func Decode(src []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(src, m); err != nil {
		return nil, fmt.Errorf("decode %s: %w", artifact.ManifestFile, err)
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Manifest) validate() error {
	var faults []error
	if m.Format != Format {
		faults = append(faults, fmt.Errorf("format is %d, this program reads %d", m.Format, Format))
	}
	last := ""
	for _, f := range m.Files {
		if path.Base(f.Name) != f.Name || f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, "\n\\") || f.Name == artifact.ManifestFile || f.Name == artifact.SumsFile || f.Name == artifact.ProvenanceFile {
			faults = append(faults, fmt.Errorf("file %q is not the name of a file beside the manifest", f.Name))
		}
		if f.Name <= last {
			faults = append(faults, fmt.Errorf("file %q is out of order or listed twice", f.Name))
		}
		if sum, err := hex.DecodeString(f.SHA256); err != nil || len(sum) != 32 || f.Size < 0 {
			faults = append(faults, fmt.Errorf("file %q has no proper size and SHA-256", f.Name))
		}
		last = f.Name
	}
	if m.Verity != nil {
		faults = append(faults, m.Verity.fault(m))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("%s: %w", artifact.ManifestFile, err)
	}
	return nil
}

// fault says what is wrong with the hash tree of a manifest.
func (v *Verity) fault(m *Manifest) error {
	f, listed := m.File(v.File)
	if !listed {
		return fmt.Errorf("verity: file %q is not listed", v.File)
	}
	if err := verity.CheckSize(v.DataSize); err != nil {
		return fmt.Errorf("verity: %w", err)
	}
	if want := verity.FileSize(v.DataSize); f.Size != want {
		return fmt.Errorf("verity: %s has %d bytes: must be %d with the hash tree of %d bytes", v.File, f.Size, want, v.DataSize)
	}
	_, err := v.Root()
	return err
}

// SumsFile returns the content of SHA256SUMS: the files by name.
func SumsFile(files []File) []byte {
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&b, "%s  %s\n", f.SHA256, f.Name)
	}
	return b.Bytes()
}
