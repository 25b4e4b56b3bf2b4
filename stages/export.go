package stages

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

	"golang.org/x/sys/unix"

	"github.com/sovereign-sql/sov/internal/artifact/manifest"
	"github.com/sovereign-sql/sov/internal/artifact/provenance"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/pipeline/store"
	"github.com/sovereign-sql/sov/stages/bundle"
	"github.com/sovereign-sql/sov/stages/runner"
)

// filePerm is the mode of a file of the artifact. The directory can be handed on
// as it is.
func filePerm(name string) fs.FileMode {
	if name == runner.File {
		return 0o755
	}
	return 0o644
}

// Export makes dir the artifact that a build's bundle holds. The files are
// gathered beside dir and take its place together: whatever goes wrong, dir is
// the artifact of before or the new one, never some of each. Files that an
// earlier artifact had and this one has not are gone afterwards; files that no
// build wrote stay. If dir is the artifact already, nothing is written.
//
// Other forms of it that the build made (Options.Formats) lie beside its files. Those of an earlier build, which are of
// another artifact or might be, are gone afterwards.
func Export(ctx context.Context, from *pipeline.Store, result *pipeline.Result, dir string) ([]ExportedFile, error) {
	st := result.Stage(bundle.Name)
	if st == nil {
		return nil, errors.New("export: the build has no bundle")
	}
	outputs := slices.Clone(st.Outputs)
	for _, f := range formatList {
		if st := result.Stage(f.name); st != nil {
			outputs = append(outputs, st.Outputs...)
		}
	}
	files := make([]ExportedFile, 0, len(outputs))
	changed := len(staleFiles(dir, outputNames(outputs))) > 0
	for _, o := range outputs {
		f := ExportedFile{Name: o.Name, Blob: o.Blob, Changed: !from.Exported(o.Blob, filepath.Join(dir, o.Name), filePerm(o.Name))}
		changed = changed || f.Changed
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b ExportedFile) int { return strings.Compare(a.Name, b.Name) })
	if !changed {
		return files, nil
	}
	if err := exportAll(ctx, from, files, dir); err != nil {
		return nil, store.Advise(fmt.Errorf("export artifact to %s: %w", dir, err), filepath.Dir(dir))
	}
	return files, nil
}

// staleFiles are files of the artifact in dir that the new one does not have.
func staleFiles(dir string, now []string) []string {
	old, err := manifest.Load(dir)
	if err != nil {
		return nil // no artifact, or none that says what is its own
	}
	var names, stale []string
	for _, f := range old.Files {
		names = append(names, f.Name)
	}
	for _, f := range formatList {
		names = append(names, f.file(old.Name))
	}
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

func exportAll(ctx context.Context, store *pipeline.Store, files []ExportedFile, dir string) error {
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
		// Notes the files under the names they have now, so that the next
		// build need not read them.
		store.Exported(f.Blob, filepath.Join(dir, f.Name), filePerm(f.Name))
	}
	return nil
}

// Replace makes dir an artifact of the files that names lists and fill writes
// into a directory beside it. They take dir's place together, as Export says.
func Replace(dir string, names []string, fill func(staging string) error) error {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	unlock, err := lockDir(parent)
	if err != nil {
		return err
	}
	defer unlock()
	if err := finishInterrupted(names, dir); err != nil {
		return err
	}
	stale := staleFiles(dir, names)
	staging, err := os.MkdirTemp(parent, stagingPrefix(dir))
	if err != nil {
		return err
	}
	// After the exchange this is what was there before.
	defer os.RemoveAll(staging)
	if err := os.Chmod(staging, 0o755); err != nil {
		return err
	}
	if err := fill(staging); err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(staging, name)
		if info, err := os.Lstat(path); err == nil && info.Mode().Perm() == filePerm(name) {
			continue
		}
		if err := os.Chmod(path, filePerm(name)); err != nil {
			return err
		}
	}
	if err := swap(staging, dir); err != nil {
		return err
	}
	return keepStrangers(staging, dir, stale)
}

func stagingPrefix(dir string) string { return "." + filepath.Base(dir) + ".new-" }

// lockDir waits until no other process exports below a directory.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// finishInterrupted clears away what exports left that were killed. One that
// was killed behind the exchange has yet to hand over the strangers' files; one
// that was killed amid an exchange by renames, to give dir back.
func finishInterrupted(names []string, dir string) error {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), stagingPrefix(dir)+"*"))
	if err != nil {
		return err
	}
	for _, old := range left {
		_, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) && isWhole(old) {
			if err := os.Rename(old, dir); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			stale := append(staleFiles(old, nil), names...)
			if err := keepStrangers(old, dir, stale); err != nil {
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

// swap makes staging what stands at dir, and dir, if there was one, what stands
// at staging.
func swap(staging, dir string) error {
	_, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Rename(staging, dir)
	}
	if err != nil {
		return err
	}
	return exchange(staging, dir)
}

// keepStrangers moves what no build wrote from the old directory to the new. A
// signature goes along only if it is that of the new artifact, too.
// Names that begin with a dot are parts of files that were being written.
func keepStrangers(old, dir string, stale []string) error {
	entries, err := os.ReadDir(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there was no old one
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == provenance.Signed && !sameProvenance(old, dir) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, e.Name())); err == nil || slices.Contains(stale, e.Name()) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := os.Rename(filepath.Join(old, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func sameProvenance(a, b string) bool {
	one, err := os.ReadFile(filepath.Join(a, provenance.Name))
	if err != nil {
		return false
	}
	other, err := os.ReadFile(filepath.Join(b, provenance.Name))
	return err == nil && bytes.Equal(one, other)
}
