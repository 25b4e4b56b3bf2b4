package module

import (
	"archive/zip"
	"bytes"
	"context"
	"io"

	"github.com/sovereign-sql/sov/internal/artifact"
)

// SignedEntry is where the archive holds the artifact's signature.
const SignedEntry = ArtifactFolder + "/" + artifact.SignedFile

// WriteSigned writes a module again with the signature of its artifact, in place of one that it may
// have. The other files are copied as they are.
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
