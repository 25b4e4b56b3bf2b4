// Package sealtest makes images with a dm-verity hash tree from any content, like root file
// systems.
package sealtest

import (
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/vmspec"
	"github.com/sovereign-sql/sov/internal/image/verity"
	"github.com/sovereign-sql/sov/internal/testkit/session"
)

// Image returns data followed by its hash tree, the tree's description for a manifest, and the
// kernel parameters that make the image the root file system.
func Image(t session.T, data []byte) (image []byte, tree *manifest.Verity, parameters []string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), artifact.RootfsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	root, err := verity.Write(t.Context(), f, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if image, err = os.ReadFile(f.Name()); err != nil {
		t.Fatal(err)
	}
	tree = &manifest.Verity{File: artifact.RootfsFile, DataSize: int64(len(data)), RootHash: root.String()}
	return image, tree, verity.Parameters(vmspec.RootDevice, tree.DataSize, root)
}
