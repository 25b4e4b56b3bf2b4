package resolve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/sovereign-sql/sov/internal/contract/lock"
	"github.com/sovereign-sql/sov/internal/contract/offline"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
	"github.com/sovereign-sql/sov/pipeline"
	"github.com/sovereign-sql/sov/stages/files"
	"github.com/sovereign-sql/sov/stages/goprogram"
)

// hashFiles computes the current digests of the recipe's files.
func (r *Resolver) hashFiles() error {
	for _, f := range r.Recipe.Files {
		if f.Content != nil {
			continue
		}
		file := lock.RecipeFile{Path: f.Path, Source: f.Where(), SHA256: f.SHA256}
		if f.Source != "" {
			var err error
			if file.SHA256, err = r.hashSource(f); err != nil {
				return fmt.Errorf("file %s: %w", f.Path, err)
			}
		}
		r.files = append(r.files, file)
	}
	for _, p := range r.Recipe.Go {
		r.files = append(r.files, lock.RecipeFile{Path: p.Output, Source: lock.GoPrefix + p.From()})
	}
	return nil
}

// GoPrograms returns the options of the stage that compiles the recipe's Go programs.
func (r *Resolver) GoPrograms(entry *lock.Entry) goprogram.Options {
	return goprogram.Options{Programs: r.Recipe.Go, Locked: entry.Files, Dir: r.Recipe.Dir, Arch: r.Arch, Offline: r.Offline, Bundle: r.OfflineBundle}
}

// sumPrograms computes the current checksums of the Go programs' sources. For modules with a
// version it uses the lock entry, or fetches them if fetch is true.
func (r *Resolver) sumPrograms(ctx context.Context, entry *lock.Entry, fetch bool) error {
	for _, p := range r.Recipe.Go {
		i := slices.IndexFunc(r.files, func(f lock.RecipeFile) bool { return f.Path == p.Output })
		f := &r.files[i]
		locked := ""
		for _, l := range entry.Files {
			if l.Path == f.Path && l.Source == f.Source {
				locked = l.SHA256
			}
		}
		if p.Module != "" && f.SHA256 == "" {
			f.SHA256 = locked
		}
		if f.SHA256 != "" || p.Module != "" && !fetch {
			continue
		}
		err := r.Do(ctx, "resolve "+p.Output, func(ctx context.Context, _ *pipeline.Task) (err error) {
			f.SHA256, err = goprogram.Sum(ctx, r.GoPrograms(&lock.Entry{}), p)
			return err
		})
		if errors.Is(err, fs.ErrNotExist) && p.Module == "" && r.OfflineBundle != nil && locked != "" {
			f.SHA256, err = locked, nil // the bundle has the sources
		}
		if err != nil {
			return fmt.Errorf("go program %s: %w", p.Output, err)
		}
	}
	return nil
}

// hashSource returns the SHA-256 of a source file of the recipe. If the file does not exist, it
// uses the offline bundle's.
func (r *Resolver) hashSource(f recipe.File) (string, error) {
	path := files.Source(r.Recipe, f)
	sum, err := hashFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if bundled, ok := r.bundledFile(f); ok {
			return bundled, nil
		}
		return "", fmt.Errorf("%w: source is relative to the folder of the recipe", err)
	}
	return sum, err
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > files.MaxFile {
		return "", fmt.Errorf("%s is not a file of at most %d bytes: list the files of a folder one by one", path, int64(files.MaxFile))
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (r *Resolver) bundledFile(f recipe.File) (string, bool) {
	if r.OfflineBundle == nil {
		return "", false
	}
	entry, err := r.bundleEntry()
	if err != nil || entry == nil {
		return "", false // the error is reported when the file is used
	}
	for _, file := range entry.Files {
		if _, ok := r.OfflineBundle.Find(offline.File, file.SHA256); ok && file.Path == f.Path && file.Source == f.Where() {
			return file.SHA256, true
		}
	}
	return "", false
}
