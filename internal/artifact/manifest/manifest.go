// Package manifest is the format of manifest.json: the list of an artifact's files with sizes and
// digests, and of its inputs.
//
// The same build gives the same manifest: it does not contain times, computers, users or
// directories.
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
	// Verity is the hash tree after the root file system; nil in artifacts of earlier versions,
	// whose kernels do not verify reads.
	Verity *Verity `json:"verity,omitempty"`
	// Postgres lists the artifact's major versions of PostgreSQL: two if it upgrades databases.
	// Empty if it has none, or in artifacts of earlier versions, see PostgresMajors.
	Postgres []int `json:"postgres,omitempty"`
}

// PostgresMajors returns the artifact's major versions of PostgreSQL. For artifacts of earlier
// versions it derives them from the packages. Empty if unknown.
func (m *Manifest) PostgresMajors() []int {
	majors := slices.Clone(m.Postgres)
	for _, in := range m.Inputs {
		if major := lock.ServerMajor(in.Name); major != 0 && in.Kind == "package" && len(m.Postgres) == 0 {
			majors = append(majors, major)
		}
	}
	return majors
}

// A Verity is a hash tree after the data of a file, see package verity.
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

// An Input is an external input of the build.
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

// Decode decodes and validates a manifest. It ignores unknown keys, so that later versions can
// extend the format.
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

// fault returns an error for an invalid hash tree.
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
