package module

import (
	"archive/zip"
	"bytes"
	"context"
	"io"

	"github.com/sovereign-sql/sov/internal/artifact"
)

// SignedEntry is the name of the artifact's signature in the archive.
const SignedEntry = ArtifactFolder + "/" + artifact.SignedFile

// WriteSigned copies a module and adds the signature of its artifact, or replaces the existing one.
// It copies the other files unchanged.
func WriteSigned(ctx context.Context, w io.Writer, old *zip.Reader, envelope []byte, scratch string) error {
	z := zip.NewWriter(w)
	for _, f := range old.File {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if f.Name == SignedEntry {
			continue
		}
		if err := z.Copy(f); err != nil {
			return err
		}
	}
	a := &archive{ctx, z, scratch}
	if err := a.add(SignedEntry, 0o644, bytes.NewReader(envelope)); err != nil {
		return err
	}
	return z.Close()
}
