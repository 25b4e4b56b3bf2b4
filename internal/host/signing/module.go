package signing

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/stages/module"
)

// SignModule adds the artifact's signature to the module beside it, if both exist: a build makes
// the module without it.
func SignModule(ctx context.Context, dir, machine string) error {
	path := filepath.Join(dir, artifact.ModuleFile(machine))
	old, err := zip.OpenReader(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer old.Close()
		err = replaceModule(ctx, dir, path, old)
	}
	if err != nil {
		return fmt.Errorf("sign %s: %w", path, err)
	}
	return nil
}

func replaceModule(ctx context.Context, dir, path string, old *zip.ReadCloser) error {
	envelope, err := os.ReadFile(filepath.Join(dir, artifact.SignedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if has, err := fs.ReadFile(old, module.SignedEntry); err == nil && bytes.Equal(has, envelope) {
		return nil
	}
	f, err := durable.Create(path, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := module.WriteSigned(ctx, f, &old.Reader, envelope, ""); err != nil {
		return err
	}
	return f.Commit()
}
