// Package tailscaletest provides the program that the stage tailscale adds to an image.
package tailscaletest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/sovereign-sql/sov/internal/image/tree"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/tailscale"
)

// Programs returns the paths of tailscaled and, in the same folder, tailscale for this computer.
// They come from the cache of builds, or are compiled into it. With certificates, they can order
// certificates.
func Programs(t testing.TB, certificates bool) (daemon, client string) {
	t.Helper()
	store, err := store.Open(CacheDir(t))
	if err != nil {
		t.Fatal(err)
	}
	stage := tailscale.New(tailscale.Options{Arch: runtime.GOARCH, Certificates: certificates})
	result, err := (&pipeline.Engine{Store: store}).Build(t.Context(), []pipeline.Stage{stage})
	if err != nil {
		t.Fatal(err)
	}
	outputs := result.Stage(tailscale.Name).Outputs
	i := slices.IndexFunc(outputs, func(o pipeline.Output) bool { return o.Name == tailscale.TarOutput })
	if i < 0 {
		t.Fatal("the stage made no " + tailscale.TarOutput)
	}
	dir := t.TempDir()
	daemon, client = filepath.Join(dir, "tailscaled"), filepath.Join(dir, "tailscale")
	if err := unpack(store, outputs[i], daemon); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("tailscaled", client); err != nil { // one program, which acts by its name
		t.Fatal(err)
	}
	return daemon, client
}

func unpack(store *pipeline.Store, archive pipeline.Output, path string) error {
	f, err := store.Open(archive.Blob)
	if err != nil {
		return err
	}
	defer f.Close()
	root := tree.New()
	if err := root.ApplyTar(f, archive.Size, tree.TarOptions{}); err != nil {
		return err
	}
	_, program, err := root.Resolve("usr/sbin/tailscaled")
	if err != nil {
		return err
	}
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, program.Content.Open())
	return errors.Join(err, to.Close())
}

// CacheDir returns the cache folder of the builds on this computer: $SOV_CACHE_DIR, else sov/ in
// the user's cache folder.
func CacheDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("SOV_CACHE_DIR"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "sov")
}
