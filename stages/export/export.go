// Package export copies the artifact of a build out of the store. It replaces the files of a
// directory together: even if the export is interrupted, a reader sees either the old or the new
// artifact.
package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sovereign-sql/sov/internal/artifact"
	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/durable"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/bundle"
	"github.com/sovereign-sql/sov/stages/formats"
)

// filePerm returns the mode of a file of the artifact.
func filePerm(name string) fs.FileMode {
	if name == artifact.RunnerFile {
		return 0o755
	}
	return 0o644
}

// A File is a file of the artifact.
type File struct {
	Name string
	pipeline.Blob
	Changed bool // it did not exist, or had other content, before
}

// Artifact writes the artifact in a build's bundle to dir, and returns the files sorted by name. It
// removes files of an earlier artifact that this one does not have, and keeps files that no build
// wrote. If dir already is this artifact, it writes nothing.
//
// Other formats that the build made are written to the same folder. Those of an earlier build may
// be of another artifact and are removed.
func Artifact(ctx context.Context, from *pipeline.Store, result *pipeline.Result, dir string) ([]File, error) {
	st := result.Stage(bundle.Name)
	if st == nil {
		return nil, errors.New("export: the build has no bundle")
	}
	outputs := slices.Clone(st.Outputs)
	for _, name := range formats.Names() {
		if st := result.Stage(name); st != nil {
			outputs = append(outputs, st.Outputs...)
		}
	}
	files := make([]File, 0, len(outputs))
	changed := len(staleFiles(dir, outputNames(outputs))) > 0
	for _, o := range outputs {
		f := File{Name: o.Name, Blob: o.Blob, Changed: !from.Exported(o.Blob, filepath.Join(dir, o.Name), filePerm(o.Name))}
		changed = changed || f.Changed
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if !changed {
		return files, nil
	}
	if err := exportAll(ctx, from, files, dir); err != nil {
		return nil, store.Advise(fmt.Errorf("export artifact to %s: %w", dir, err), filepath.Dir(dir))
	}
	return files, nil
}

// staleFiles returns the files of the artifact in dir that the new one does not have.
func staleFiles(dir string, now []string) []string {
	old, err := manifest.Load(dir)
	if err != nil {
		return nil // not an artifact, or one without a list of its files
	}
	var names, stale []string
	for _, f := range old.Files {
		names = append(names, f.Name)
	}
	names = append(names, formats.Files(old.Name)...)
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil && !slices.Contains(now, name) {
			stale = append(stale, name)
		}
	}
	return stale
}

func outputNames(outputs []pipeline.Output) []string {
	var names []string
	for _, o := range outputs {
		names = append(names, o.Name)
	}
	return names
}

func exportAll(ctx context.Context, store *pipeline.Store, files []File, dir string) error {
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	err := Replace(dir, names, func(staging string) error {
		for _, f := range files {
			if _, err := store.Export(ctx, f.Blob, filepath.Join(staging, f.Name), filePerm(f.Name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range files {
		// Record the files under their final names, so that the next build need not read them.
		store.Exported(f.Blob, filepath.Join(dir, f.Name), filePerm(f.Name))
	}
	return nil
}

// Replace makes dir an artifact with the files in names. fill writes them into a staging directory
// in the same folder, which then replaces dir atomically.
func Replace(dir string, names []string, fill func(staging string) error) error {
	parent := filepath.Dir(dir)
	if err := durable.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	// Wait until no other process exports below the directory.
	lock, err := durable.WaitLock(context.Background(), parent, durable.Exclusive, durable.LockOptions{Existing: true})
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := finishInterrupted(names, dir); err != nil {
		return err
	}
	stale := staleFiles(dir, names)
	staging, err := os.MkdirTemp(parent, stagingPrefix(dir))
	if err != nil {
		return err
	}
	// After the swap, staging is the previous artifact.
	defer os.RemoveAll(staging)
	if err := os.Chmod(staging, 0o755); err != nil {
		return err
	}
	if err := fill(staging); err != nil {
		return err
	}
	for _, name := range names {
		if err := setPerm(filepath.Join(staging, name), filePerm(name)); err != nil {
			return err
		}
	}
	// fill has synced the files. Their names and the swap of the directories are synced here.
	if err := durable.SyncDir(staging); err != nil {
		return err
	}
	if err := putInPlace(staging, dir); err != nil {
		return err
	}
	if err := durable.SyncDir(parent); err != nil {
		return err
	}
	return keepUnbuilt(staging, dir, stale)
}

// setPerm gives a file a mode, durably.
func setPerm(path string, perm fs.FileMode) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().Perm() == perm {
		return nil
	}
	if err := os.Chmod(path, perm); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func stagingPrefix(dir string) string { return "." + filepath.Base(dir) + ".new-" }

// finishInterrupted cleans up after killed exports. An export that was killed after the swap has
// not moved the files that no build wrote; after one that was killed during a swap by renames, dir
// may not exist.
func finishInterrupted(names []string, dir string) error {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), stagingPrefix(dir)+"*"))
	if err != nil {
		return err
	}
	for _, old := range left {
		_, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) && isWhole(old) {
			if err := durable.Rename(old, dir); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			stale := append(staleFiles(old, nil), names...)
			if err := keepUnbuilt(old, dir, stale); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	return nil
}

// isWhole reports whether a directory has every file that its manifest lists.
func isWhole(dir string) bool {
	m, err := manifest.Load(dir)
	return err == nil && !slices.ContainsFunc(m.Files, func(f manifest.File) bool {
		info, err := os.Lstat(filepath.Join(dir, f.Name))
		return err != nil || info.Size() != f.Size
	})
}

// putInPlace renames staging to dir. A previous dir is renamed to staging.
func putInPlace(staging, dir string) error {
	_, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Rename(staging, dir)
	}
	if err != nil {
		return err
	}
	return swap(staging, dir)
}

// keepUnbuilt moves the files that no build wrote from the old directory to the new one. A
// signature is moved only if it is valid for the new artifact, too. Names that begin with a dot are
// partial files.
func keepUnbuilt(old, dir string, stale []string) error {
	entries, err := os.ReadDir(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there was no old one
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == artifact.SignedFile && !sameProvenance(old, dir) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, e.Name())); err == nil || slices.Contains(stale, e.Name()) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := os.Rename(filepath.Join(old, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return durable.SyncDir(dir)
}

func sameProvenance(a, b string) bool {
	one, err := os.ReadFile(filepath.Join(a, artifact.ProvenanceFile))
	if err != nil {
		return false
	}
	other, err := os.ReadFile(filepath.Join(b, artifact.ProvenanceFile))
	return err == nil && bytes.Equal(one, other)
}
