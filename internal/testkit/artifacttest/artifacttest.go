// Package artifacttest makes artifacts for tests of their installation: complete, with a correct
// manifest, but not bootable.
package artifacttest

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/dsse"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
)

// Noise returns n incompressible bytes, always the same for a seed.
func Noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	rand.NewChaCha8(key).Read(b)
	return b
}

// Spec returns the vm.json of an arm64 artifact.
func Spec(name string) *vmspec.Spec {
	return &vmspec.Spec{
		Format: vmspec.Format, Name: name, Arch: "arm64", Kernel: artifact.KernelFile, Parameters: []string{"ro"}, MemoryMiB: 64, CPUs: 1,
		Disks: []vmspec.Disk{{Role: vmspec.RoleRootfs, File: artifact.RootfsFile, ReadOnly: true}},
		Network: vmspec.Network{TAP: "vm_" + name, Host: netip.MustParsePrefix("192.168.100.1/24"), Guest: netip.MustParsePrefix("192.168.100.2/24"),
			MTU: 1500, DNS: []netip.Addr{}, Hostname: name, Routing: vmspec.MainFirst,
			AddressUnset: true},
		Ports: []vmspec.Port{}, Ready: vmspec.Ready{Port: vmspec.StatusPort, TimeoutSeconds: 60},
	}
}

// Make writes the artifact of a machine to a new folder and returns the folder. kernel and rootfs
// are the contents of its files.
func Make(t testing.TB, name, version string, kernel, rootfs []byte) string {
	t.Helper()
	dir := t.TempDir()
	spec, err := Spec(name).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{artifact.SpecFile: spec, artifact.KernelFile: kernel, artifact.RootfsFile: rootfs} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	Seal(t, dir, &manifest.Manifest{Format: manifest.Format, Name: name, Version: version, Arch: "arm64"})
	return dir
}

// Seal writes the manifest m, and the checksums, of the files in dir that m lists. If m lists none,
// it describes the files of Make.
func Seal(t testing.TB, dir string, m *manifest.Manifest) {
	t.Helper()
	names := []string{artifact.KernelFile, artifact.RootfsFile, artifact.SpecFile}
	if len(m.Files) > 0 {
		names = nil
		for _, f := range m.Files {
			names = append(names, f.Name)
		}
	}
	m.Files = nil
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		m.Files = append(m.Files, manifest.Describe(name, content))
	}
	slices.SortFunc(m.Files, func(a, b manifest.File) int { return strings.Compare(a.Name, b.Name) })
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sums := manifest.SumsFile(append([]manifest.File{manifest.Describe(artifact.ManifestFile, text)}, m.Files...))
	for name, content := range map[string][]byte{artifact.ManifestFile: text, artifact.SumsFile: sums} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Change returns a copy of an artifact as another version, with vm.json changed by alter.
func Change(t testing.TB, from, version string, alter func(*vmspec.Spec)) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, artifact.SpecFile))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := vmspec.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	alter(spec)
	// Not Encode: a test may need an invalid spec.
	if text, err = json.Marshal(spec); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, artifact.SpecFile), text, 0o644); err != nil {
		t.Fatal(err)
	}
	m.Version = version
	Seal(t, dir, m)
	return dir
}

// WithKernel returns a copy of an artifact with another kernel.
func WithKernel(t testing.TB, from string, kernel []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, artifact.KernelFile), kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	Seal(t, dir, m)
	return dir
}

// Sign adds a provenance to an artifact of Make, unless it has one, and signs it.
func Sign(t testing.TB, dir string, key dsse.PrivateKey, serial int64) {
	t.Helper()
	m, err := manifest.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, artifact.ManifestFile))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, artifact.ProvenanceFile)
	if _, err := os.Lstat(path); err != nil {
		files := append([]manifest.File{manifest.Describe(artifact.ManifestFile, text)}, m.Files...)
		statement, err := provenance.New(files, "v1", provenance.External{Arch: m.Arch}, provenance.Internal{}, nil).Encode()
		if err == nil {
			err = os.WriteFile(path, statement, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := provenance.Sign(dir, key, provenance.Release{Name: m.Name, Serial: serial}); err != nil {
		t.Fatal(err)
	}
}

// Key returns a signing key, always the same for a seed.
func Key(t testing.TB, seed byte) dsse.PrivateKey {
	t.Helper()
	key, err := dsse.NewKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Flip inverts one bit of the byte at offset at of a file.
func Flip(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}
