package manifest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/bound"
	"github.com/sovereign-sql/sov/internal/finding"
)

// maxManifest is the largest manifest, in bytes. Usual ones have about ten KiB.
const maxManifest = 16 << 20

// Load reads the manifest of an artifact's directory.
func Load(dir string) (*Manifest, error) {
	b, err := bound.ReadFile(filepath.Join(dir, artifact.ManifestFile), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a built artifact: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return Decode(b)
}

// Verify compares every file of an artifact with its manifest, and the manifest and the provenance
// with SHA256SUMS. It ignores other files. It returns a failed finding for each file that differs;
// the error is one of reading the manifest.
func Verify(ctx context.Context, dir string) ([]finding.Finding, error) {
	m, err := Load(dir)
	if err != nil {
		return nil, err
	}
	var problems []finding.Finding
	for _, f := range m.Files {
		what, err := Compare(ctx, filepath.Join(dir, f.Name), f)
		if err != nil {
			return problems, fmt.Errorf("verify %s: %w", f.Name, err)
		}
		if what != "" {
			problems = append(problems, finding.Fail(f.Name, what, ""))
		}
	}
	what, err := compareSums(dir, m)
	if err != nil {
		return problems, fmt.Errorf("verify %s: %w", artifact.SumsFile, err)
	}
	if what != "" {
		problems = append(problems, finding.Fail(artifact.SumsFile, what, ""))
	}
	return problems, nil
}

// Compare describes how the file at path differs from its entry, or returns "".
func Compare(ctx context.Context, path string, want File) (string, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is missing", nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "is not a regular file", nil
	case info.Size() != want.Size:
		return fmt.Sprintf("has %d bytes, the manifest says %d", info.Size(), want.Size), nil
	}
	sum, err := hashFile(ctx, path)
	if err != nil {
		return "", err
	}
	if sum != want.SHA256 {
		return fmt.Sprintf("has SHA-256 %s, the manifest says %s", sum, want.SHA256), nil
	}
	return "", nil
}

func compareSums(dir string, m *Manifest) (string, error) {
	got, err := bound.ReadFile(filepath.Join(dir, artifact.SumsFile), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return "is missing", nil
	}
	if err != nil {
		return "", err
	}
	listed := append([]File{}, m.Files...)
	for _, name := range []string{artifact.ManifestFile, artifact.ProvenanceFile} {
		raw, err := bound.ReadFile(filepath.Join(dir, name), maxManifest)
		if name == artifact.ProvenanceFile && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		listed = append(listed, Describe(name, raw))
	}
	if string(got) != string(SumsFile(listed)) {
		return "does not agree with the manifest and the files beside it", nil
	}
	return "", nil
}

// Describe returns the entry of a file with the given content.
func Describe(name string, content []byte) File {
	sum := sha256.Sum256(content)
	return File{Name: name, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
}

func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}
