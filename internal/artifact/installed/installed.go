// Package installed reads an artifact as it is installed on a phone: manifest.json, vm.json, and
// the files that a start needs. It reads only the files of the artifact.
package installed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/image/verity"
)

// MaxText is the largest manifest.json or vm.json, in bytes.
const MaxText = 4 << 20

// Files returns the files of an artifact in a slot, in addition to manifest.json: vm.json and the
// files that it names. It checks that vm.json matches the manifest.
func Files(m *manifest.Manifest, spec *vmspec.Spec) ([]manifest.File, error) {
	if m.Name != spec.Name || m.Arch != spec.Arch {
		return nil, fmt.Errorf("manifest.json is of %s for %s, vm.json of %s for %s", m.Name, m.Arch, spec.Name, spec.Arch)
	}
	names := []string{artifact.SpecFile, spec.Kernel}
	for _, d := range spec.Disks {
		if d.Role == vmspec.RoleRootfs {
			names = append(names, d.File)
		}
	}
	slices.Sort(names)
	var out []manifest.File
	for _, name := range slices.Compact(names) {
		f, ok := m.File(name)
		if !ok || strings.HasPrefix(name, ".") {
			return nil, fmt.Errorf("vm.json needs %s, which manifest.json does not list", name)
		}
		out = append(out, f)
	}
	return out, nil
}

// An Artifact is the artifact in a folder, according to its own files.
type Artifact struct {
	Manifest *manifest.Manifest
	Spec     *vmspec.Spec
	Files    []manifest.File // that a slot holds, see Files
	Digest   string          // SHA-256 of manifest.json, in hexadecimal digits
	Texts    [2][]byte       // manifest.json and vm.json as they are
}

// Parse decodes an artifact's manifest.json and vm.json, and checks that they match.
func Parse(manifestText, specText []byte) (*Artifact, error) {
	a := &Artifact{Texts: [2][]byte{manifestText, specText}}
	sum := sha256.Sum256(manifestText)
	a.Digest = hex.EncodeToString(sum[:])
	var err error
	if a.Manifest, err = manifest.Decode(manifestText); err != nil {
		return nil, err
	}
	if f, _ := a.Manifest.File(artifact.SpecFile); manifest.Describe(artifact.SpecFile, specText) != f {
		return nil, errors.New("vm.json is not the one that manifest.json lists")
	}
	if a.Spec, err = vmspec.Decode(specText); err != nil {
		return nil, err
	}
	a.Files, err = Files(a.Manifest, a.Spec)
	return a, err
}

// Streamed returns the files in the stream of a push, in order: the files of a slot without those
// in the offer (package pushapi).
func Streamed(a *Artifact) []manifest.File {
	var out []manifest.File
	for _, f := range a.Files {
		if f.Name != artifact.SpecFile {
			out = append(out, f)
		}
	}
	return out
}

// Load reads the artifact in a folder. It checks the sizes of the files, not their content; see
// Damage.
func Load(dir string) (*Artifact, error) {
	manifestText, err := ReadFile(filepath.Join(dir, artifact.ManifestFile))
	if err != nil {
		return nil, err
	}
	specText, err := ReadFile(filepath.Join(dir, artifact.SpecFile))
	if err != nil {
		return nil, err
	}
	a, err := Parse(manifestText, specText)
	if err != nil {
		return nil, err
	}
	for _, f := range a.Files {
		info, err := os.Lstat(filepath.Join(dir, f.Name))
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() != f.Size {
			return nil, fmt.Errorf("%s is not a file of %d bytes", filepath.Join(dir, f.Name), f.Size)
		}
	}
	return a, nil
}

// Damage compares files of an artifact in a folder with the manifest, byte for byte, and describes
// the first difference, or returns "". For a root file system with a hash tree it names the damaged
// block.
func (a *Artifact) Damage(ctx context.Context, dir string, files ...manifest.File) (string, error) {
	for _, want := range files {
		path := filepath.Join(dir, want.Name)
		what, err := manifest.Compare(ctx, path, want)
		if err != nil {
			return "", fmt.Errorf("compare %s: %w", path, err)
		}
		if what == "" {
			continue
		}
		if block := a.damagedBlock(ctx, path, want); block != nil {
			what = fmt.Sprintf("is damaged: %v", block)
		}
		return want.Name + " " + what, nil
	}
	return "", nil
}

// damagedBlock finds the damaged blocks of a root file system. It returns nil if there is no hash
// tree.
func (a *Artifact) damagedBlock(ctx context.Context, path string, want manifest.File) *verity.DamageError {
	tree := a.Manifest.Verity
	if tree == nil || tree.File != want.Name {
		return nil
	}
	root, err := tree.Root()
	if err != nil {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	damage := new(verity.DamageError)
	if !errors.As(verity.Check(ctx, f, tree.DataSize, root), &damage) {
		return nil
	}
	return damage
}

// ReadFile reads a file of at most MaxText bytes.
func ReadFile(path string) ([]byte, error) {
	return bound.ReadFile(path, MaxText)
}
